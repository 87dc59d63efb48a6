/**
 * Exponential moving average without the bias towards zero at the start (as Adam corrects its moments).
 *
 * `weight` is what is kept of the past: 0 is the raw curve, 0.99 is very smooth. Values that are NaN stay NaN and do
 * not enter the average.
 */
export function smooth(values: ArrayLike<number>, weight: number): Float64Array<ArrayBuffer> {
  const out = new Float64Array(values.length);
  let average = 0;
  let remaining = 1;
  for (let index = 0; index < values.length; index += 1) {
    const value = values[index] as number;
    if (Number.isNaN(value)) {
      out[index] = Number.NaN;
      continue;
    }
    average = weight * average + (1 - weight) * value;
    remaining *= weight;
    out[index] = weight === 0 ? value : average / (1 - remaining);
  }
  return out;
}

/**
 * The lowest and highest value at the indexes from `from` up to `to`; undefined when there is none. With `positiveOnly`
 * those that a log axis cannot show are left out.
 */
export function extent(
  values: ArrayLike<number | null>,
  positiveOnly: boolean,
  from = 0,
  to = values.length,
): [number, number] | undefined {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (let index = Math.max(0, from); index < Math.min(to, values.length); index += 1) {
    const value = values[index];
    if (value == null || Number.isNaN(value) || (positiveOnly && value <= 0)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low > high ? undefined : [low, high];
}
