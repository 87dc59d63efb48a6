/** What is drawn on the curves beside their points: interventions, versions, forks. */

export type MarkKind = "intervention" | "version" | "fork" | "warning";

export interface Mark {
  step: number;
  kind: MarkKind;
  /** A few words, drawn where there is room. */
  label: string;
  /** The whole story, shown near the cursor. */
  title: string;
  /** An agent did it, as it may many times: among many it is drawn as a notch. */
  agent?: boolean;
}

/** The marks within `reach` (in steps) of a step, nearest first. */
export function marksNear(marks: readonly Mark[], step: number, reach: number): Mark[] {
  return marks
    .filter((mark) => Math.abs(mark.step - step) <= reach)
    .sort((one, other) => Math.abs(one.step - step) - Math.abs(other.step - step));
}

/**
 * Which labels are drawn, and in which of `rows` rows: from right to left, so that the newest are never the ones left
 * out. `left` and `width` are in pixels. A label that would cover another one gets no row.
 */
export function placeLabels(
  labels: readonly { left: number; width: number }[],
  rows: number,
): (number | undefined)[] {
  const placed = new Array<number | undefined>(labels.length).fill(undefined);
  const free = new Array<number>(rows).fill(Number.POSITIVE_INFINITY);
  const order = labels.map((_, index) => index).sort((a, b) => start(labels[b]) - start(labels[a]));
  for (const index of order) {
    const label = labels[index];
    if (!label) continue;
    const row = free.findIndex((edge) => label.left + label.width <= edge);
    if (row < 0) continue;
    placed[index] = row;
    free[row] = label.left - 4;
  }
  return placed;
}

function start(label: { left: number } | undefined): number {
  return label?.left ?? 0;
}
