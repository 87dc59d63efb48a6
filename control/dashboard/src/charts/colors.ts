const COLORS = 8;

/** The colour of the source or curve at a place, as a CSS variable. */
export function seriesColor(index: number): string {
  return `--series-${(index % COLORS) + 1}`;
}
