import { describe, expect, it } from "vitest";
import { bytes } from "./bytes";
import { brief, duration, parseNumber, whole } from "./numbers";

describe("a number field", () => {
  it.each([
    ["1e-5", 1e-5],
    [" 2E-3 ", 2e-3],
    ["0.9", 0.9],
    [".5", 0.5],
    ["3", 3],
    ["+1.5e2", 150],
  ])("reads %s", (text, value) => {
    expect(parseNumber(text)).toEqual({ value });
  });

  it.each(["", "abc", "1e", "0x10", "1,5", "Infinity", "NaN", "1e999"])(
    "refuses %j with a reason",
    (text) => {
      expect(parseNumber(text)).toHaveProperty("problem");
    },
  );

  it("holds to the bounds that the server gave, and to no others", () => {
    expect(parseNumber("2", { maximum: 1 })).toEqual({ problem: "At most 1." });
    expect(parseNumber("0", { exclusiveMinimum: 0 })).toEqual({ problem: "More than 0." });
    expect(parseNumber("1", { exclusiveMaximum: 1 })).toEqual({ problem: "Less than 1." });
    expect(parseNumber("-1", { minimum: 0 })).toEqual({ problem: "At least 0." });
    expect(parseNumber("1000")).toEqual({ value: 1000 });
  });
});

describe("a number on the page", () => {
  it.each([
    [0, "0"],
    [1e-5, "1e-5"],
    [0.00012345, "1.234e-4"],
    [0.5, "0.5"],
    [1204, "1,204"],
    [1234567, "1.23M"],
    [Number.NaN, "not a number"],
  ])("%d reads %s", (value, text) => {
    expect(brief(value)).toBe(text);
  });

  it.each([
    [0.45, "450 ms"],
    [2.345, "2.3 s"],
    [90, "90 s"],
    [600, "10 min"],
    [9000, "2.5 h"],
    [345_600, "4 d"],
  ])("%d seconds read %s", (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });
});

it("shows sizes in their largest sensible unit", () => {
  expect([0, 999, 1500, 7_340_032, 2.5e12].map(bytes)).toEqual([
    "0 B",
    "999 B",
    "1.5 kB",
    "7.34 MB",
    "2.5 TB",
  ]);
});

it("tells any step from its neighbour", () => {
  expect(whole(100_300)).toBe("100,300");
  expect(whole(1_234_567)).not.toBe(whole(1_234_568));
});
