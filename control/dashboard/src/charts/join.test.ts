import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { join } from "./join";

const curve = (points: [number, number][]) => ({
  x: Float64Array.from(points.map(([step]) => step)),
  y: Float64Array.from(points.map(([, value]) => value)),
});

describe("joining curves", () => {
  it("shares the steps and leaves holes where a curve has no point", () => {
    const joined = join([
      curve([
        [1, 10],
        [3, 30],
      ]),
      curve([
        [2, 200],
        [3, 300],
      ]),
    ]);
    expect(joined.map((row) => [...row])).toEqual([
      [1, 2, 3],
      [10, null, 30],
      [null, 200, 300],
    ]);
  });

  it("copies nothing when all steps are the same", () => {
    const one = curve([[1, 2]]);
    const joined = join([one, { x: one.x, y: Float64Array.from([5]) }]);
    expect(joined[0]).toBe(one.x);
    expect(joined[1]).toBe(one.y);
  });

  it("of nothing is nothing", () => {
    expect(join([]).map((row) => row.length)).toEqual([0]);
  });

  it("keeps every point of every curve, for any steps", () => {
    const points = fc.uniqueArray(fc.integer({ min: 0, max: 50 }), { maxLength: 30 });
    fc.assert(
      fc.property(fc.array(points, { minLength: 1, maxLength: 4 }), (sets) => {
        const curves = sets.map((set) =>
          curve([...set].sort((a, b) => a - b).map((step): [number, number] => [step, step * 7])),
        );
        const [steps, ...rows] = join(curves);
        expect([...(steps ?? [])]).toEqual([...new Set(sets.flat())].sort((a, b) => a - b));
        rows.forEach((row, index) => {
          expect([...row].filter((value) => value !== null)).toEqual([...(curves[index]?.y ?? [])]);
        });
      }),
    );
  });
});
