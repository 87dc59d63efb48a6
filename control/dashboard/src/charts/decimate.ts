import { lowerBound, type Series } from "../live/series";
import type { Zoom } from "./plot";
import { smooth } from "./smoothing";

/**
 * Curves as they are drawn: however many points one has, no more than the screen can show.
 *
 * Steps fall into buckets of `width` steps, a power of two, the same for all curves of a chart and always at the same
 * steps, so that a curve stands still while points are added. A bucket is two rows: the lowest and the highest value in
 * it, in the order in which they came, so that a single point that sticks out is seen at any zoom; its smoothed value is
 * the mean of those in it.
 */

type Values = (number | null)[];

/** Steps in a bucket; 1 where every step has a column of its own. */
export function bucketWidth({ min, max }: Zoom, columns: number): number {
  const wanted = (max - min) / Math.max(1, columns);
  return wanted <= 1 ? 1 : 2 ** Math.ceil(Math.log2(wanted));
}

/** One curve of a chart. What was worked out for its points is kept until they, the window or the smoothing change. */
export class Decimated {
  private smoothedOf = "";
  private values: Float64Array = new Float64Array(0);
  private bucketsOf = "";
  /** The first bucket's number; undefined while there are no points in view. */
  private first: number | undefined;
  private early: Values = [];
  private late: Values = [];
  private means: Values = [];

  /** Its smoothed values, one for each point. */
  smoothed(series: Series, smoothing: number): Float64Array {
    const key = `${series.revision} ${smoothing}`;
    if (key !== this.smoothedOf) {
      this.smoothedOf = key;
      this.values = smooth(series.y, smoothing);
    }
    return this.values;
  }

  /** Sorts the points in view into buckets. */
  gather(series: Series, window: Zoom, width: number, smoothing: number): void {
    const { x } = series;
    // One point beyond each edge: the curve goes on to there.
    const from = Math.max(0, lowerBound(x, window.min) - 1);
    const to = Math.min(x.length, lowerBound(x, window.max) + 1);
    const key = `${series.revision} ${from} ${to} ${width} ${smoothing}`;
    if (key === this.bucketsOf) return;
    this.bucketsOf = key;
    this.early = [];
    this.late = [];
    this.means = [];
    this.first = undefined;
    if (to <= from) return;
    const { low, high } = series;
    const drawn = smoothing > 0 ? this.smoothed(series, smoothing) : series.y;
    const first = Math.floor((x[from] as number) / width);
    this.first = first;
    for (let at = from; at < to; ) {
      const bucket = Math.floor((x[at] as number) / width);
      const end = (bucket + 1) * width;
      let [lowest, highest, sum, count] = [at, at, 0, 0];
      for (; at < to && (x[at] as number) < end; at += 1) {
        if ((low[at] as number) < (low[lowest] as number)) lowest = at;
        if ((high[at] as number) > (high[highest] as number)) highest = at;
        sum += drawn[at] as number;
        count += 1;
      }
      const place = bucket - first;
      while (this.means.length < place) this.put(null, null, null);
      const [bottom, top] = [low[lowest] as number, high[highest] as number];
      if (lowest <= highest) this.put(bottom, top, sum / count);
      else this.put(top, bottom, sum / count);
    }
  }

  private put(early: number | null, late: number | null, mean: number | null): void {
    this.early.push(early);
    this.late.push(late);
    this.means.push(mean);
  }

  /** From the first bucket to the one after the last. */
  get range(): [number, number] | undefined {
    return this.first === undefined ? undefined : [this.first, this.first + this.means.length];
  }

  /** Puts its two rows of a bucket onto the columns. */
  take(bucket: number, raw: Values | undefined, smoothed: Values | undefined): void {
    const place = bucket - (this.first ?? 0);
    raw?.push(this.early[place] ?? null, this.late[place] ?? null);
    smoothed?.push(this.means[place] ?? null, null);
  }

  has(bucket: number): boolean {
    return this.means[bucket - (this.first ?? 0)] != null;
  }
}

interface Curve {
  points: Series | undefined;
  decimated: Decimated;
  /** Whether its values are drawn behind the smoothed ones. */
  raw: boolean;
}

/** The columns that uPlot draws: the steps, then for each curve its values and, with `smoothing`, the smoothed ones. */
export function columnsOf(
  curves: readonly Curve[],
  window: Zoom,
  width: number,
  smoothing: number,
): [number[], ...Values[]] {
  for (const { points, decimated } of curves) if (points) decimated.gather(points, window, width, smoothing);
  const known = curves.filter(({ points, decimated }) => points && decimated.range);
  const ranges = known.flatMap(({ decimated }) => (decimated.range ? [decimated.range] : []));
  const first = Math.min(...ranges.map(([from]) => from));
  const end = Math.max(...ranges.map(([, to]) => to));
  const rows = curves.map(({ raw }) => ({
    raw: raw || smoothing === 0 ? ([] as Values) : undefined,
    smoothed: smoothing > 0 ? ([] as Values) : undefined,
  }));
  const steps: number[] = [];
  for (let bucket = first; bucket < end; bucket += 1) {
    if (!known.some(({ decimated }) => decimated.has(bucket))) continue;
    steps.push(bucket * width, (bucket + 0.5) * width);
    for (const [index, { points, decimated }] of curves.entries()) {
      const { raw, smoothed } = rows[index] ?? {};
      if (points) decimated.take(bucket, raw, smoothed);
      else for (const values of [raw, smoothed]) values?.push(null, null);
    }
  }
  return [
    steps,
    ...rows.flatMap(({ raw, smoothed }) => [raw, smoothed].filter((values) => values !== undefined)),
  ];
}
