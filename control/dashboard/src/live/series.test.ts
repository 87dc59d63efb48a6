import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { lowerBound, Series } from "./series";

describe("a series", () => {
  it("hands back what was appended, in order", () => {
    const series = new Series();
    for (let step = 0; step < 5000; step += 1) series.append(step, { value: step * 2 });
    expect(series.length).toBe(5000);
    expect(series.x[4999]).toBe(4999);
    expect(series.y[2500]).toBe(5000);
    expect(series.last()).toEqual({ step: 4999, value: 9998 });
  });

  it("takes far more points than it keeps, and forgets no stretch and no extreme of them", () => {
    const series = new Series(1000);
    for (let step = 1; step <= 100_000; step += 1)
      series.append(step, { value: step === 777 ? 99 : step === 50_001 ? -99 : 1 });
    expect(series.length).toBeLessThanOrEqual(1000);
    expect(series.last()).toEqual({ step: 100_000, value: 1 });
    expect(Math.max(...series.high)).toBe(99);
    expect(Math.min(...series.low)).toBe(-99);
    expect(series.high.indexOf(99)).toBe(lowerBound(series.x, 777));
    expect(series.low.indexOf(-99)).toBe(lowerBound(series.x, 50_001));
  });

  it("keeps the extremes of what was thinned before it came", () => {
    const series = new Series();
    series.append(50, { value: 1, low: -3, high: 8 });
    expect([series.low[0], series.y[0], series.high[0]]).toEqual([-3, 1, 8]);
  });

  it("cuts what lay beyond when training goes back", () => {
    const series = new Series();
    for (const step of [1, 2, 3, 4, 5]) series.append(step, { value: step });
    series.append(3, { value: 30 });
    expect([...series.x]).toEqual([1, 2, 3]);
    expect([...series.y]).toEqual([1, 2, 30]);
  });

  it("counts values that are not finite and draws none of them", () => {
    const series = new Series();
    series.append(1, { value: 1 });
    series.append(2, { value: null });
    series.append(3, { value: Number.NaN });
    series.append(4, { value: 4 });
    expect([...series.x]).toEqual([1, 4]);
    expect(series.notFinite).toBe(2);
  });

  it("is, for any steps, the rising stretch that a plain list would hold", () => {
    const steps = fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 400 });
    fc.assert(
      fc.property(steps, (all) => {
        const series = new Series();
        let plain: number[] = [];
        for (const step of all) {
          series.append(step, { value: step });
          plain = [...plain.filter((earlier) => earlier < step), step];
        }
        expect([...series.x]).toEqual(plain);
        expect([...series.y]).toEqual(plain);
      }),
    );
  });

  it("stays, for any capacity, in rising order between its extremes, up to the newest step", () => {
    const values = fc.array(fc.integer({ min: -9, max: 9 }), { minLength: 1, maxLength: 300 });
    fc.assert(
      fc.property(values, fc.integer({ min: 4, max: 40 }), (all, capacity) => {
        const series = new Series(capacity);
        for (const [index, value] of all.entries()) series.append(index + 1, { value });
        expect(series.length).toBeLessThanOrEqual(capacity);
        expect([...series.x]).toEqual([...new Set(series.x)].sort((one, other) => one - other));
        expect(series.last()).toEqual({ step: all.length, value: all.at(-1) });
        expect(Math.max(...series.high)).toBe(Math.max(...all));
        expect(Math.min(...series.low)).toBe(Math.min(...all));
        for (let at = 0; at < series.length; at += 1) {
          expect(series.y[at]).toBeGreaterThanOrEqual(series.low[at] as number);
          expect(series.y[at]).toBeLessThanOrEqual(series.high[at] as number);
        }
      }),
    );
  });
});

describe("lowerBound", () => {
  it("finds where a value would be put", () => {
    expect(lowerBound([1, 3, 5], 3)).toBe(1);
    expect(lowerBound([1, 3, 5], 4)).toBe(2);
    expect(lowerBound([1, 3, 5], 9)).toBe(3);
    expect(lowerBound([], 1)).toBe(0);
  });
});
