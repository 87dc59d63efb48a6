import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { chartsFor } from "./layout";
import { panned, pinnedFirst } from "./pan";

describe("panning", () => {
  it("moves the window by a part of its width", () => {
    expect(panned({ min: 100, max: 200 }, { min: 1, max: 1000 }, 0.5)).toEqual({ min: 150, max: 250 });
    expect(panned({ min: 100, max: 200 }, { min: 1, max: 1000 }, -0.5)).toEqual({ min: 50, max: 150 });
  });

  it("stops at the first and at the newest step", () => {
    expect(panned({ min: 10, max: 110 }, { min: 1, max: 130 }, -0.5)).toEqual({ min: 1, max: 101 });
    expect(panned({ min: 10, max: 110 }, { min: 1, max: 130 }, 0.5)).toEqual({ min: 30, max: 130 });
    expect(panned({ min: 0, max: 300 }, { min: 1, max: 130 }, 0.5)).toEqual({ min: 0, max: 300 });
  });

  it("stays where it is while there are no steps", () => {
    expect(panned({ min: 1, max: 5 }, undefined, 1)).toEqual({ min: 1, max: 5 });
  });

  it("keeps its width, and leaves the steps on no side further than it was", () => {
    const zooms = fc.tuple(fc.integer({ min: 0, max: 1e6 }), fc.integer({ min: 1, max: 1e6 }));
    fc.assert(
      fc.property(
        zooms,
        zooms,
        fc.double({ min: -5, max: 5, noNaN: true }),
        ([at, wide], [from, long], by) => {
          const zoom = { min: at, max: at + wide };
          const whole = { min: from, max: from + long };
          const moved = panned(zoom, whole, by);
          expect(moved.max - moved.min).toBe(wide);
          expect(moved.min).toBeGreaterThanOrEqual(Math.min(zoom.min, whole.min));
          expect(moved.max).toBeLessThanOrEqual(Math.max(zoom.max, whole.max));
        },
      ),
    );
  });
});

describe("pinned charts", () => {
  const charts = chartsFor(["loss", "grad_norm", "speed", "learning_rate"]);
  const ids = (pinned: readonly string[]) => pinnedFirst(charts, pinned).map(({ id }) => id);

  it("come first, in the order in which they were pinned", () => {
    expect(ids(["speed", "grad_norm"])).toEqual(["speed", "grad_norm", "loss", "learning_rate"]);
  });

  it("change nothing where there are none, or none that is known", () => {
    expect(ids([])).toEqual(charts.map(({ id }) => id));
    expect(ids(["gone"])).toEqual(charts.map(({ id }) => id));
  });
});
