/**
 * The points of one metric on one branch, in typed arrays outside React.
 *
 * The newest `capacity` points are kept, always contiguous: the arrays are up to twice as long as that, and when they
 * are full the newest half moves to the front, so that appending stays cheap and reading needs no copy.
 */
export class Series {
  private xs: Float64Array<ArrayBuffer>;
  private ys: Float64Array<ArrayBuffer>;
  private start = 0;
  private end = 0;
  /** Grows with every change; a reader that remembers it knows whether it has anything to draw. */
  revision = 0;
  /** How many values were not finite; they leave no point. */
  notFinite = 0;

  constructor(readonly capacity = 50_000) {
    this.xs = new Float64Array(Math.min(1024, 2 * capacity));
    this.ys = new Float64Array(Math.min(1024, 2 * capacity));
  }

  get length(): number {
    return this.end - this.start;
  }

  /** Steps in rising order: a view, valid until the next append. */
  get x(): Float64Array<ArrayBuffer> {
    return this.xs.subarray(this.start, this.end);
  }

  /** Values at those steps: a view, valid until the next append. */
  get y(): Float64Array<ArrayBuffer> {
    return this.ys.subarray(this.start, this.end);
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
  append(step: number, value: number | null): void {
    this.revision += 1;
    this.cutFrom(step);
    if (value === null || !Number.isFinite(value)) {
      this.notFinite += 1;
      return;
    }
    if (this.end === this.xs.length) this.makeRoom();
    this.xs[this.end] = step;
    this.ys[this.end] = value;
    this.end += 1;
    if (this.length > this.capacity) this.start += 1;
  }

  /** Drops every point at `step` or later. */
  cutFrom(step: number): void {
    const newest = this.xs[this.end - 1];
    if (this.length === 0 || newest === undefined || newest < step) return;
    this.end = this.start + lowerBound(this.x, step);
    this.revision += 1;
  }

  private makeRoom(): void {
    if (this.xs.length < 2 * this.capacity) {
      const size = Math.min(2 * this.xs.length, 2 * this.capacity);
      this.xs = grown(this.xs, size);
      this.ys = grown(this.ys, size);
      return;
    }
    this.xs.copyWithin(0, this.start, this.end);
    this.ys.copyWithin(0, this.start, this.end);
    this.end -= this.start;
    this.start = 0;
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

function grown(array: Float64Array<ArrayBuffer>, size: number): Float64Array<ArrayBuffer> {
  const bigger = new Float64Array(size);
  bigger.set(array);
  return bigger;
}
