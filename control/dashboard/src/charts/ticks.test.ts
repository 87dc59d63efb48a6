import { describe, expect, it } from "vitest";
import { tickLabels } from "./ticks";

describe("the labels of an axis", () => {
  it.each([
    [
      [9e-4, 9.5e-4, 1e-3, 1.05e-3],
      ["9e-4", "9.5e-4", "1e-3", "1.05e-3"],
    ],
    [
      [0, 2.5e-4, 1e-3],
      ["0", "2.5e-4", "1e-3"],
    ],
    [
      [0, 0.025, 0.05],
      ["0", "0.025", "0.05"],
    ],
    [
      [1e-4, null, 1e-2, 1],
      ["1e-4", "", "0.01", "1"],
    ],
    [
      [0, 50_000, 100_000, 150_000],
      ["0", "50k", "100k", "150k"],
    ],
    [
      [2000, 12_345],
      ["2,000", "12,345"],
    ],
    [
      [500_000, 1_000_000],
      ["500k", "1M"],
    ],
    [[], []],
  ])("%j are of one notation", (ticks, written) => {
    expect(tickLabels(ticks)).toEqual(written);
  });
});
