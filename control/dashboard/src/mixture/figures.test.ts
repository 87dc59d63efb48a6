import { describe, expect, it } from "vitest";
import type { MixtureSource } from "../api/types";
import { figuresOf } from "./figures";

const source = { weight: 1, dry: false, samples_per_second: 3.08, lag_seconds: 2, skipped: 7, jumped: 0 };

describe("the figures of a source", () => {
  it("begin with the loss of its newest samples, then come in a fixed order", () => {
    expect(figuresOf(source as MixtureSource, 0.123456)).toEqual([
      { label: "loss", value: 0.123, unit: "" },
      { label: "samples/s", value: 3.1, unit: "" },
      { label: "age", value: 2, unit: "s" },
      { label: "skipped", value: 7, unit: "" },
    ]);
  });

  it("leave out a loss that was not told", () => {
    expect(figuresOf(source as MixtureSource).map(({ label }) => label)).not.toContain("loss");
    expect(figuresOf(source as MixtureSource, null).map(({ label }) => label)).not.toContain("loss");
  });
});
