import type { CommandRecord } from "../api/types";
import { sameShares, type Weights } from "./shares";

export const COMMAND = "update_dataset_runtime_hyperparameters";

/** What taking back the mixture that was sent from this tab would restore, or why it cannot be taken back. */
export interface Undo {
  readonly restores?: Weights;
  readonly unavailable?: string;
  /** Whether somebody changed the mixture after it was sent from here. */
  readonly overtaken?: boolean;
}

/**
 * `commands` are the run's, newest first; `sent` holds the identities of those that came from this tab; `inForce` are the
 * weights that are drawn with. Only the newest change can be taken back, and only by who made it: what others set since
 * would be undone with it.
 */
export function undoOf(
  commands: readonly CommandRecord[],
  sent: ReadonlySet<string>,
  inForce: Weights,
): Undo {
  const mixtures = commands.filter(changesMixture);
  if (!mixtures.some(({ uuid }) => sent.has(uuid))) {
    return { unavailable: "Nothing to undo: no mixture was sent from this tab." };
  }
  const newest = mixtures[0];
  if (newest && !newest.outcome) {
    return sent.has(newest.uuid)
      ? { unavailable: "Your mixture is on its way; it can be undone once it is done." }
      : { unavailable: `A mixture of ${newest.author} is on its way.`, overtaken: true };
  }
  const last = mixtures.find(({ outcome }) => outcome === "success");
  if (!last)
    return { unavailable: "Nothing to undo: the mixture that was sent from this tab did not come off." };
  if (!sent.has(last.uuid)) {
    const since = `${last.author} has changed the mixture since it was sent from this tab`;
    return { unavailable: `${since}; an undo would take that back, too.`, overtaken: true };
  }
  const before = weightsIn(last.before);
  const after = weightsIn(last.after);
  if (!before) return { unavailable: "The trainer did not say what the mixture was before." };
  if (after && !sameShares(after, inForce)) {
    return { unavailable: "What is in force is not the mixture that was sent from this tab." };
  }
  return { restores: before };
}

function changesMixture({ command, dry_run, arguments: args }: CommandRecord): boolean {
  return command === COMMAND && !dry_run && weightsIn(args) !== undefined;
}

function weightsIn(value: unknown): Weights | undefined {
  const weights = (value as { weights?: unknown } | null | undefined)?.weights;
  if (typeof weights !== "object" || weights === null) return undefined;
  const pairs = Object.entries(weights);
  const numbers = pairs.length > 0 && pairs.every(([, weight]) => typeof weight === "number");
  return numbers ? Object.fromEntries(pairs as [string, number][]) : undefined;
}
