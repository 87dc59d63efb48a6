import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { percentages, sameShares, sharesOf, toWeights, withShare } from "./shares";

const mixture = fc
  .uniqueArray(fc.stringMatching(/^[a-z]{1,6}$/), { minLength: 1, maxLength: 6 })
  .chain((names) =>
    fc
      .array(fc.double({ min: 0.001, max: 1000, noNaN: true }), {
        minLength: names.length,
        maxLength: names.length,
      })
      .map((weights) => Object.fromEntries(names.map((name, index) => [name, weights[index] as number]))),
  );
const sum = (values: Record<string, number>) =>
  Object.values(values).reduce((total, value) => total + value, 0);

describe("shares", () => {
  it("are weights over their sum", () => {
    expect(sharesOf({ base: 2, live: 1, history: 1 })).toEqual({ base: 0.5, live: 0.25, history: 0.25 });
  });

  it("are all 0 where nothing is drawn", () => {
    expect(sharesOf({ base: 0, live: 0 })).toEqual({ base: 0, live: 0 });
  });

  it("sum to one for any weights", () => {
    fc.assert(
      fc.property(mixture, (weights) => {
        expect(sum(sharesOf(weights))).toBeCloseTo(1, 9);
      }),
    );
  });
});

describe("giving one source a share", () => {
  it("leaves the others in proportion", () => {
    const shares = withShare({ base: 0.6, history: 0.2, live: 0.2 }, "live", 0.6);
    expect(shares.live).toBeCloseTo(0.6);
    expect(shares.base).toBeCloseTo(0.3);
    expect(shares.history).toBeCloseTo(0.1);
  });

  it("keeps the sum at one and the source where it was put", () => {
    fc.assert(
      fc.property(mixture, fc.double({ min: 0, max: 0.99, noNaN: true }), (weights, wanted) => {
        const names = Object.keys(weights);
        const result = withShare(sharesOf(weights), names[0] as string, wanted);
        expect(sum(result)).toBeCloseTo(1, 9);
        if (names.length > 1) expect(result[names[0] as string]).toBeCloseTo(wanted, 9);
      }),
    );
  });

  it("does not start a paused source when the only other one is turned down", () => {
    expect(withShare({ base: 1, live: 0 }, "base", 0.4)).toEqual({ base: 1, live: 0 });
  });

  it("starts a paused source when it is itself turned up", () => {
    expect(withShare({ base: 1, live: 0 }, "live", 0.25)).toEqual({ base: 0.75, live: 0.25 });
  });
});

describe("percentages", () => {
  it("of thirds sum to exactly 100.0", () => {
    expect(percentages({ a: 1, b: 1, c: 1 })).toEqual({ a: 33.4, b: 33.3, c: 33.3 });
  });

  it("sum to exactly 100.0 for any mixture", () => {
    fc.assert(
      fc.property(mixture, (weights) => {
        const tenths = Object.values(percentages(weights)).map((percent) => Math.round(percent * 10));
        expect(tenths.reduce((total, value) => total + value, 0)).toBe(1000);
      }),
    );
  });
});

describe("what is sent", () => {
  it("is rounded to a thousandth and survives a round trip", () => {
    expect(toWeights({ base: 1, live: 2 })).toEqual({ base: 0.333, live: 0.667 });
    fc.assert(
      fc.property(mixture, (weights) => {
        expect(sameShares(weights, toWeights(weights))).toBe(true);
      }),
    );
  });
});
