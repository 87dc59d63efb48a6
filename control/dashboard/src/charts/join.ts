/** Several curves over their common, rising steps, in the form that uPlot draws; null where a curve has no point. */

export interface Curve {
  x: Float64Array<ArrayBuffer>;
  y: Float64Array<ArrayBuffer>;
}

export type Column = Float64Array<ArrayBuffer> | (number | null)[];

/** The first column holds the steps. Where all curves have the same steps, nothing is copied. */
export function join(curves: readonly Curve[]): [Float64Array<ArrayBuffer>, ...Column[]] {
  const [first] = curves;
  if (!first) return [new Float64Array(0)];
  if (curves.every((curve) => sameSteps(curve.x, first.x)))
    return [first.x, ...curves.map((curve) => curve.y)];
  const steps = union(curves);
  return [steps, ...curves.map((curve) => spread(curve, steps))];
}

function sameSteps(one: Float64Array, other: Float64Array): boolean {
  if (one === other) return true;
  if (one.length !== other.length) return false;
  for (let index = one.length - 1; index >= 0; index -= 1) if (one[index] !== other[index]) return false;
  return true;
}

function union(curves: readonly Curve[]): Float64Array<ArrayBuffer> {
  const all = new Float64Array(curves.reduce((sum, curve) => sum + curve.x.length, 0));
  let filled = 0;
  for (const curve of curves) {
    all.set(curve.x, filled);
    filled += curve.x.length;
  }
  all.sort();
  let kept = 0;
  for (let index = 0; index < all.length; index += 1) {
    if (index === 0 || all[index] !== all[index - 1]) all[kept++] = all[index] as number;
  }
  return all.slice(0, kept);
}

function spread(curve: Curve, steps: Float64Array): (number | null)[] {
  const values = new Array<number | null>(steps.length).fill(null);
  let at = 0;
  for (let index = 0; index < steps.length && at < curve.x.length; index += 1) {
    if (steps[index] === curve.x[at]) values[index] = curve.y[at++] as number;
  }
  return values;
}
