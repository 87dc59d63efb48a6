/** How long to wait before the next attempt, in milliseconds: doubling, capped, spread so that pages do not return in step. */
export function retryDelay(attempt: number, random: () => number = Math.random): number {
  const ceiling = Math.min(15_000, 500 * 2 ** Math.max(0, attempt - 1));
  return Math.round(ceiling * (0.6 + 0.4 * random()));
}
