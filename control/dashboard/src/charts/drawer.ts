import type uPlot from "uplot";
import { lowerBound, type Series } from "../live/series";
import type { CurveSource } from "./Chart";
import { bucketWidth, columnsOf, Decimated } from "./decimate";
import { join } from "./join";
import type { Zoom } from "./plot";

/** CSS pixels that a bucket of steps is wide, at least. */
const BUCKET = 1.5;
const NONE = new Float64Array(0);

/** What a curve says at a step: `raw` is the measured value where `value` is the smoothed one. */
export interface Reading {
  value: number | undefined;
  raw: number | undefined;
}

/** Puts the points of a chart's curves into its plot when there is something new, and remembers what it has drawn. */
export class Drawer {
  curves: readonly CurveSource[] = [];
  smoothing = 0;
  private drawn = "";
  /** Steps that one row of the plot stands for. */
  private width = 1;
  private decimated = new Map<string, Decimated>();

  forget(): void {
    this.drawn = "";
  }

  draw(plot: uPlot, window: Zoom | undefined): void {
    const series = this.curves.map((curve) => curve.points());
    const across = Math.max(50, plot.width - 80);
    // A window that grew by less than a pixel shows nothing new.
    const pixel = window ? Math.max(1, (window.max - window.min) / across) : 1;
    const end = window ? Math.floor(window.max / pixel) : 0;
    const state = `${series.map((points) => points?.revision ?? -1).join()} ${window?.min} ${end} ${across}`;
    if (state === this.drawn) return;
    this.drawn = state;
    const columns = Math.floor(across / BUCKET);
    this.width = window ? bucketWidth(window, columns) : 1;
    const most = Math.max(0, ...series.map((points) => (points && window ? inView(points, window) : 0)));
    if (most <= columns) this.width = 1;
    plot.setData(
      (window && this.width > 1 ? this.thinned(series, window) : this.exact(series)) as uPlot.AlignedData,
    );
  }

  /** What the curve says at a step, or at the nearest one where a row of the plot stands for several. */
  read(curve: CurveSource, step: number): Reading & { step: number | undefined } {
    const points = curve.points();
    const at = points ? nearest(points.x, step) : -1;
    const found = points?.x[at];
    if (!points || found === undefined || Math.abs(found - step) > this.width - 1)
      return { step: undefined, value: undefined, raw: undefined };
    if (this.smoothing === 0) return { step: found, value: points.y[at], raw: undefined };
    const smoothed = this.decimatedOf(curve).smoothed(points, this.smoothing);
    return { step: found, value: smoothed[at], raw: points.y[at] };
  }

  private thinned(series: readonly (Series | undefined)[], window: Zoom) {
    const curves = this.curves.map((curve, index) => ({
      points: series[index],
      decimated: this.decimatedOf(curve),
      raw: !curve.aside,
    }));
    return columnsOf(curves, window, this.width, this.smoothing);
  }

  private exact(series: readonly (Series | undefined)[]) {
    const columns = this.curves.flatMap((curve, index) => {
      const points = series[index];
      const x = points?.x ?? NONE;
      const raw = { x, y: points?.y ?? NONE };
      if (this.smoothing === 0) return [raw];
      const smoothed = points ? this.decimatedOf(curve).smoothed(points, this.smoothing) : NONE;
      const drawn = { x, y: smoothed as Float64Array<ArrayBuffer> };
      return curve.aside ? [drawn] : [raw, drawn];
    });
    return join(columns);
  }

  private decimatedOf({ name }: CurveSource): Decimated {
    const known = this.decimated.get(name) ?? new Decimated();
    this.decimated.set(name, known);
    return known;
  }
}

function inView({ x }: Series, { min, max }: Zoom): number {
  return lowerBound(x, max) - lowerBound(x, min);
}

/** The index of the step nearest to `step`; -1 where there is none. */
function nearest(x: Float64Array, step: number): number {
  const after = lowerBound(x, step);
  if (after === 0) return x.length > 0 ? 0 : -1;
  const [before, behind] = [x[after - 1] as number, x[after] ?? Number.POSITIVE_INFINITY];
  return step - before <= behind - step ? after - 1 : after;
}
