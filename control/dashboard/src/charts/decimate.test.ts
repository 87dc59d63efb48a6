import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Series } from "../live/series";
import { bucketWidth, columnsOf, Decimated } from "./decimate";

function seriesOf(values: readonly number[], first = 1, stride = 1): Series {
  const series = new Series();
  for (const [index, value] of values.entries()) series.append(first + index * stride, { value });
  return series;
}

function drawn(
  all: readonly Series[],
  columns: number,
  smoothing: number,
  window?: { min: number; max: number },
) {
  const shown = window ?? {
    min: Math.min(...all.map(({ x }) => x[0] as number)),
    max: Math.max(...all.map(({ x }) => x[x.length - 1] as number)),
  };
  const width = bucketWidth(shown, columns);
  const curves = all.map((points) => ({ points, decimated: new Decimated(), raw: true }));
  return columnsOf(curves, shown, width, smoothing);
}

describe("a decimated curve", () => {
  it("of 100,000 points is no longer than the screen is wide, and shows the one that sticks out", () => {
    const values = Array.from({ length: 100_000 }, (_, index) =>
      index === 31_415 ? 40 : Math.sin(index / 999),
    );
    const [steps, raw] = drawn([seriesOf(values)], 400, 0);
    expect(steps.length).toBeLessThanOrEqual(2 * 402);
    expect(steps.length).toBeGreaterThan(400);
    const at = (raw as number[]).indexOf(40);
    expect(Math.abs((steps[at] as number) - 31_416)).toBeLessThanOrEqual(256);
    expect(Math.min(...(raw as number[]))).toBe(Math.min(...values));
  });

  it("stands still while points are added", () => {
    const values = Array.from({ length: 5000 }, (_, index) => Math.sin(index));
    const before = drawn([seriesOf(values)], 300, 0.6);
    const after = drawn([seriesOf([...values, 1, 2, 3])], 300, 0.6);
    const kept = before[0].length - 2; // the newest bucket may still grow
    for (const [index, column] of before.entries())
      expect(after[index]?.slice(0, kept)).toEqual(column.slice(0, kept));
  });

  it("keeps, for any values and columns, both extremes and rising steps", () => {
    const values = fc.array(fc.integer({ min: -50, max: 50 }), { minLength: 1, maxLength: 400 });
    fc.assert(
      fc.property(
        values,
        fc.integer({ min: 5, max: 100 }),
        fc.integer({ min: 1, max: 9 }),
        (all, columns, stride) => {
          const [steps, raw] = drawn([seriesOf(all, 1, stride)], columns, 0);
          const numbers = (raw as (number | null)[]).filter((value) => value !== null);
          expect(Math.max(...numbers)).toBe(Math.max(...all));
          expect(Math.min(...numbers)).toBe(Math.min(...all));
          expect(steps).toEqual([...new Set(steps)].sort((one, other) => one - other));
          expect(raw?.length).toBe(steps.length);
        },
      ),
    );
  });

  it("shares its steps with the others, and has none where they have some", () => {
    const one = seriesOf(Array.from({ length: 1000 }, () => 1));
    const other = seriesOf(
      Array.from({ length: 500 }, () => 2),
      2001,
    );
    const [steps, first, second] = drawn([one, other], 100, 0);
    expect(first?.length).toBe(steps.length);
    for (const [row, step] of steps.entries()) {
      if (step < 1000 && step > 32) expect([first?.[row], second?.[row]]).toEqual([1, null]);
      if (step > 2048) expect([first?.[row], second?.[row]]).toEqual([null, 2]);
    }
  });

  it("goes on to the edge of a window in the middle", () => {
    const series = seriesOf(Array.from({ length: 10_000 }, (_, index) => index + 1));
    const [steps, raw] = drawn([series], 100, 0, { min: 4000, max: 6000 });
    expect(steps[0]).toBeLessThanOrEqual(4000);
    expect(raw?.at(-1)).toBeGreaterThanOrEqual(6000);
    expect(raw?.[0]).toBeGreaterThan(3900);
  });

  it("smooths all points before it takes their means", () => {
    const series = seriesOf(Array.from({ length: 4096 }, (_, index) => index % 2));
    const [, , smoothed] = drawn([series], 64, 0.9);
    const means = (smoothed as (number | null)[]).filter((value) => value !== null);
    expect(means.length).toBeGreaterThanOrEqual(64);
    for (const mean of means.slice(4)) expect(mean).toBeCloseTo(0.5, 1);
  });
});

it("gives every step a bucket of its own where there is room", () => {
  expect(bucketWidth({ min: 1, max: 100 }, 400)).toBe(1);
  expect(bucketWidth({ min: 1, max: 401 }, 400)).toBe(1);
  expect(bucketWidth({ min: 0, max: 402 }, 400)).toBe(2);
  expect(bucketWidth({ min: 0, max: 100_000 }, 400)).toBe(256);
});
