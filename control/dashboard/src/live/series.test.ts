import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { lowerBound, Series } from "./series";

describe("a series", () => {
  it("hands back what was appended, in order", () => {
    const series = new Series();
    for (let step = 0; step < 5000; step += 1) series.append(step, step * 2);
    expect(series.length).toBe(5000);
    expect(series.x[4999]).toBe(4999);
    expect(series.y[2500]).toBe(5000);
    expect(series.last()).toEqual({ step: 4999, value: 9998 });
  });

  it("takes far more points than it keeps, and keeps the newest", () => {
    const series = new Series(1000);
    for (let step = 0; step < 100_000; step += 1) series.append(step, -step);
    expect(series.length).toBe(1000);
    expect(series.x[0]).toBe(99_000);
    expect(series.y[999]).toBe(-99_999);
  });

  it("cuts what lay beyond when training goes back", () => {
    const series = new Series();
    for (const step of [1, 2, 3, 4, 5]) series.append(step, step);
    series.append(3, 30);
    expect([...series.x]).toEqual([1, 2, 3]);
    expect([...series.y]).toEqual([1, 2, 30]);
  });

  it("counts values that are not finite and draws none of them", () => {
    const series = new Series();
    series.append(1, 1);
    series.append(2, null);
    series.append(3, Number.NaN);
    series.append(4, 4);
    expect([...series.x]).toEqual([1, 4]);
    expect(series.notFinite).toBe(2);
  });

  it("is, for any steps, the newest rising stretch that a plain list would hold", () => {
    const steps = fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 400 });
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 40 }), (all, capacity) => {
        const series = new Series(capacity);
        let plain: number[] = [];
        for (const step of all) {
          series.append(step, step);
          plain = [...plain.filter((earlier) => earlier < step), step].slice(-capacity);
        }
        expect([...series.x]).toEqual(plain);
        expect([...series.y]).toEqual(plain);
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
