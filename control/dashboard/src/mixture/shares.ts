/** The arithmetic of a mixture: weights are relative and at least 0, shares sum to one. */

export type Weights = Readonly<Record<string, number>>;

/** Each source's part of the whole. All zero means that nothing is drawn: every share is 0. */
export function sharesOf(weights: Weights): Record<string, number> {
  const total = Object.values(weights).reduce((sum, weight) => sum + weight, 0);
  return Object.fromEntries(
    Object.entries(weights).map(([source, weight]) => [source, total > 0 ? weight / total : 0]),
  );
}

/**
 * Gives `source` the share `wanted` (0 to 1); the others keep their proportions in what is left. Others that are all
 * at 0 stay there, for a source that somebody paused is not to start because another one is turned down: then, and
 * when there are no others, `source` keeps the whole.
 */
export function withShare(shares: Weights, source: string, wanted: number): Record<string, number> {
  const share = Math.min(1, Math.max(0, wanted));
  const others = Object.entries(shares).filter(([name]) => name !== source);
  const rest = others.reduce((sum, [, value]) => sum + value, 0);
  const result: Record<string, number> = {};
  for (const name of Object.keys(shares)) {
    const old = shares[name] ?? 0;
    if (name === source) result[name] = rest > 0 ? share : 1;
    else result[name] = rest > 0 ? (old / rest) * (1 - share) : old;
  }
  return result;
}

/** Shares as whole tenths of a percent that sum to exactly 100.0 (the largest remainders are rounded up). */
export function percentages(shares: Weights): Record<string, number> {
  const total = Object.values(shares).reduce((sum, share) => sum + share, 0);
  if (total <= 0) return Object.fromEntries(Object.keys(shares).map((name) => [name, 0]));
  const exact = Object.entries(shares).map(([name, share]) => ({ name, tenths: (share / total) * 1000 }));
  const whole = exact.map(({ name, tenths }) => ({ name, tenths: Math.floor(tenths), rest: tenths % 1 }));
  let missing = 1000 - whole.reduce((sum, part) => sum + part.tenths, 0);
  for (const part of [...whole].sort((a, b) => b.rest - a.rest)) {
    if (missing <= 0) break;
    part.tenths += 1;
    missing -= 1;
  }
  return Object.fromEntries(whole.map(({ name, tenths }) => [name, tenths / 10]));
}

/** Weights to send: shares rounded to a thousandth, summing to one. */
export function toWeights(shares: Weights): Record<string, number> {
  return Object.fromEntries(
    Object.entries(percentages(shares)).map(([name, percent]) => [name, Math.round(percent * 10) / 1000]),
  );
}

/** Whether two mixtures draw alike, up to what the panel can show. */
export function sameShares(one: Weights, other: Weights): boolean {
  const a = toWeights(one);
  const b = toWeights(other);
  const names = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...names].every((name) => Math.abs((a[name] ?? 0) - (b[name] ?? 0)) < 0.0015);
}
