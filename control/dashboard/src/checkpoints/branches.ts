import type { BranchInfo, CheckpointInfo } from "../api/types";

/** What a new branch may be called: as the server has it in `control/api.py`. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

export interface BranchRow {
  branch: BranchInfo;
  depth: number;
}

/** The branches as a tree read from the top: each below the one that it was forked from, older forks first. */
export function branchTree(branches: readonly BranchInfo[]): BranchRow[] {
  const byFork = [...branches].sort(
    (one, other) => (one.forked_at ?? 0) - (other.forked_at ?? 0) || one.time - other.time,
  );
  const rows: BranchRow[] = [];
  const placed = new Set<string>();
  const place = (info: BranchInfo, depth: number) => {
    if (placed.has(info.branch)) return;
    placed.add(info.branch);
    rows.push({ branch: info, depth });
    for (const child of byFork) if (child.parent === info.branch) place(child, depth + 1);
  };
  for (const info of byFork) if (info.parent == null) place(info, 0);
  // A parent that is not among the branches hides nobody.
  for (const info of byFork) place(info, 0);
  return rows;
}

/** A branch and those that it came from, each with the step up to which it counts: what lies beyond was left behind. */
export function lineageOf(branches: readonly BranchInfo[], branch: string): ReadonlyMap<string, number> {
  const known = new Map(branches.map((info) => [info.branch, info]));
  const lineage = new Map<string, number>();
  let upTo = Number.POSITIVE_INFINITY;
  for (let name: string | null | undefined = branch; name != null && !lineage.has(name); ) {
    lineage.set(name, upTo);
    const info = known.get(name);
    upTo = Math.min(upTo, info?.forked_at ?? upTo);
    name = info?.parent;
  }
  return lineage;
}

/** A name that is free, made of where the branch begins. */
export function suggestName(checkpoint: CheckpointInfo, taken: ReadonlySet<string>): string {
  const base = `${checkpoint.branch}-at-${checkpoint.step ?? 0}`.slice(0, 58);
  if (!taken.has(base)) return base;
  for (let count = 2; ; count += 1) if (!taken.has(`${base}-${count}`)) return `${base}-${count}`;
}

/** What is wrong with a name for a new branch; undefined when nothing is. */
export function nameProblem(name: string, taken: ReadonlySet<string>): string | undefined {
  if (name === "") return "A branch needs a name.";
  if (!NAME.test(name))
    return "Letters, digits, dots, dashes and underscores only, a letter or digit first, 64 at most.";
  return taken.has(name) ? `There is a branch ${name} already; a branch is never overwritten.` : undefined;
}
