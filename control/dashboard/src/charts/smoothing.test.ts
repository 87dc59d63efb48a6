import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { extent, smooth } from "./smoothing";

const curve = fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 200 });
const weight = fc.double({ min: 0, max: 0.999, noNaN: true });

describe("smoothing", () => {
  it("with weight 0 is the raw curve", () => {
    expect([...smooth([3, 1, 2], 0)]).toEqual([3, 1, 2]);
  });

  it("starts at the first value, not near zero", () => {
    expect(smooth([8, 8, 8], 0.99)[0]).toBeCloseTo(8, 10);
  });

  it("leaves a constant curve as it is, at any weight", () => {
    fc.assert(
      fc.property(weight, (kept) => {
        for (const value of smooth([5, 5, 5, 5], kept)) expect(value).toBeCloseTo(5, 8);
      }),
    );
  });

  it("never leaves the range of its values", () => {
    fc.assert(
      fc.property(curve, weight, (values, kept) => {
        const low = Math.min(...values);
        const high = Math.max(...values);
        const slack = 1e-6 * (1 + Math.abs(low) + Math.abs(high));
        for (const value of smooth(values, kept)) {
          expect(value).toBeGreaterThanOrEqual(low - slack);
          expect(value).toBeLessThanOrEqual(high + slack);
        }
      }),
    );
  });

  it("steps over a missing value", () => {
    const out = smooth([2, Number.NaN, 2], 0.5);
    expect(out[1]).toBeNaN();
    expect(out[2]).toBeCloseTo(2, 10);
  });
});

describe("extent", () => {
  it("ignores what a log axis cannot show", () => {
    expect(extent([0, -1, 10, 100, Number.NaN], true)).toEqual([10, 100]);
    expect(extent([0, -1, 10], false)).toEqual([-1, 10]);
    expect(extent([Number.NaN, null], false)).toBeUndefined();
  });

  it("looks only at what is in view", () => {
    expect(extent([100, 1, 2, 50], false, 1, 3)).toEqual([1, 2]);
  });
});
