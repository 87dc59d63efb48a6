import type { BranchInfo, CheckpointInfo } from "../api/types";

/** What a new branch may be called: as the server has it in `control/api.py`. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

export interface BranchRow {
  branch: BranchInfo;
  /** The branch that it was forked from; undefined for one that began from nothing. */
  parent: string | undefined;
  depth: number;
}

/** The branches as a tree read from the top: each below the one that it was forked from, older forks first. */
export function branchTree(branches: readonly BranchInfo[]): BranchRow[] {
  const owner = new Map(
    branches.flatMap(({ branch, segments }) => segments.map(({ segment }) => [segment, branch])),
  );
  const parentOf = (info: BranchInfo) => {
    const parent = info.parent == null ? undefined : owner.get(info.parent);
    return parent === info.branch ? undefined : parent;
  };
  const rows: BranchRow[] = [];
  const placed = new Set<string>();
  const place = (info: BranchInfo, parent: string | undefined, depth: number) => {
    if (placed.has(info.branch)) return;
    placed.add(info.branch);
    rows.push({ branch: info, parent, depth });
    for (const child of byFork) if (parentOf(child) === info.branch) place(child, info.branch, depth + 1);
  };
  const byFork = [...branches].sort(
    (one, other) => (one.forked_at ?? 0) - (other.forked_at ?? 0) || one.time - other.time,
  );
  for (const info of byFork) if (parentOf(info) === undefined) place(info, undefined, 0);
  // A parent that is not among the branches (its events were thinned out) hides nobody.
  for (const info of byFork) place(info, parentOf(info), 0);
  return rows;
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
