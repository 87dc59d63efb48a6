/** One point: its value, and the extremes of what it stands for where it stands for several. */
export interface Point {
  value: number | null;
  low?: number | null | undefined;
  high?: number | null | undefined;
}

type Column = Float64Array<ArrayBuffer>;
type ColumnName = "xs" | "ys" | "lows" | "highs";
const COLUMNS: readonly ColumnName[] = ["xs", "ys", "lows", "highs"];

/**
 * The points of one metric on one branch, in typed arrays outside React.
 *
 * At most `capacity` points are kept, and none is forgotten: when there are more, each two of the older half become one,
 * their mean, with their extremes beside it. What the server has thinned comes in the same form.
 */
export class Series {
  private xs: Column;
  private ys: Column;
  private lows: Column;
  private highs: Column;
  private end = 0;
  /** Grows with every change; a reader that remembers it knows whether it has anything to draw. */
  revision = 0;
  /** How many values were not finite; they leave no point. */
  notFinite = 0;

  constructor(readonly capacity = 100_000) {
    const size = Math.min(1024, capacity);
    this.xs = new Float64Array(size);
    this.ys = new Float64Array(size);
    this.lows = new Float64Array(size);
    this.highs = new Float64Array(size);
  }

  get length(): number {
    return this.end;
  }

  /** Steps in rising order: a view, valid until the next append. */
  get x(): Column {
    return this.xs.subarray(0, this.end);
  }

  /** Values at those steps: a view, valid until the next append. */
  get y(): Column {
    return this.ys.subarray(0, this.end);
  }

  /** The smallest value that each point stands for: a view, valid until the next append. */
  get low(): Column {
    return this.lows.subarray(0, this.end);
  }

  /** The largest value that each point stands for: a view, valid until the next append. */
  get high(): Column {
    return this.highs.subarray(0, this.end);
  }

  last(): { step: number; value: number } | undefined {
    const step = this.xs[this.end - 1];
    const value = this.ys[this.end - 1];
    return this.length === 0 || step === undefined || value === undefined ? undefined : { step, value };
  }

  /**
   * Adds one point. A step at or before the newest one means that training went back (a segment that resumed from an
   * earlier checkpoint): what lay beyond is cut off, as it is in the run itself.
   */
  append(step: number, { value, low, high }: Point): void {
    this.revision += 1;
    this.cutFrom(step);
    if (value === null || !Number.isFinite(value)) {
      this.notFinite += 1;
      return;
    }
    if (this.end === this.capacity) this.thin();
    else if (this.end === this.xs.length) this.grow();
    this.xs[this.end] = step;
    this.ys[this.end] = value;
    this.lows[this.end] = low ?? value;
    this.highs[this.end] = high ?? value;
    this.end += 1;
  }

  /** Drops every point at `step` or later. */
  cutFrom(step: number): void {
    const newest = this.xs[this.end - 1];
    if (this.length === 0 || newest === undefined || newest < step) return;
    this.end = lowerBound(this.x, step);
    this.revision += 1;
  }

  private grow(): void {
    const size = Math.min(2 * this.xs.length, this.capacity);
    for (const name of COLUMNS) {
      const bigger = new Float64Array(size);
      bigger.set(this[name]);
      this[name] = bigger;
    }
  }

  /** As the server thins: of each two, the later step, the mean and the extremes. */
  private thin(): void {
    const { xs, ys, lows, highs } = this;
    const pairs = Math.max(1, this.capacity >> 2);
    for (let to = 0; to < pairs; to += 1) {
      const one = 2 * to;
      const other = one + 1;
      xs[to] = xs[other] as number;
      ys[to] = ((ys[one] as number) + (ys[other] as number)) / 2;
      lows[to] = Math.min(lows[one] as number, lows[other] as number);
      highs[to] = Math.max(highs[one] as number, highs[other] as number);
    }
    for (const name of COLUMNS) this[name].copyWithin(pairs, 2 * pairs, this.end);
    this.end -= pairs;
  }
}

/** The first index whose value is at least `wanted`, in a rising array. */
export function lowerBound(values: ArrayLike<number>, wanted: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] as number) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}
