import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Mark, marksNear, placeLabels } from "./marks";

const mark = (step: number): Mark => ({ step, kind: "version", label: `v${step}`, title: "" });

describe("marks near the cursor", () => {
  it("come nearest first and leave out those beyond reach", () => {
    expect(marksNear([mark(10), mark(18), mark(30)], 20, 10).map((near) => near.step)).toEqual([18, 10, 30]);
    expect(marksNear([mark(10)], 20, 9)).toEqual([]);
  });
});

describe("labels", () => {
  it("use a second row where the first is taken, and give up after that", () => {
    const labels = [0, 10, 20].map((left) => ({ left, width: 50 }));
    expect(placeLabels(labels, 2)).toEqual([undefined, 1, 0]);
  });

  it("never cover one another", () => {
    const label = fc.record({
      left: fc.integer({ min: 0, max: 500 }),
      width: fc.integer({ min: 5, max: 80 }),
    });
    fc.assert(
      fc.property(fc.array(label, { maxLength: 30 }), (labels) => {
        const rows = placeLabels(labels, 2);
        labels.forEach((one, i) => {
          labels.forEach((other, j) => {
            if (i === j || rows[i] === undefined || rows[i] !== rows[j]) return;
            expect(one.left + one.width <= other.left || other.left + other.width <= one.left).toBe(true);
          });
        });
      }),
    );
  });
});
