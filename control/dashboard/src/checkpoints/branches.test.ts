import { describe, expect, it } from "vitest";
import type { BranchInfo, CheckpointInfo } from "../api/types";
import { branchTree, nameProblem, suggestName } from "./branches";

const branch = (name: string, parent: string | null, forked_at: number | null, time = 0): BranchInfo => ({
  branch: name,
  parent,
  forked_at,
  time,
  segments: [{ segment: `${name}-1`, branch: name, time, first_seq: 1, reason: "fresh", note: "" }],
});

describe("the tree of branches", () => {
  it("puts each below the one it was forked from, older forks first", () => {
    const rows = branchTree([
      branch("late", "main-1", 90),
      branch("leaf", "early-1", 50),
      branch("main", null, null),
      branch("early", "main-1", 40),
    ]);
    expect(rows.map((row) => [row.branch.branch, row.parent, row.depth])).toEqual([
      ["main", undefined, 0],
      ["early", "main", 1],
      ["leaf", "early", 2],
      ["late", "main", 1],
    ]);
  });

  it("hides nobody whose parent is unknown", () => {
    expect(branchTree([branch("orphan", "gone-1", 10)]).map((row) => row.branch.branch)).toEqual(["orphan"]);
  });
});

describe("the name of a new branch", () => {
  const checkpoint = { branch: "main", step: 120 } as CheckpointInfo;

  it("is suggested free", () => {
    expect(suggestName(checkpoint, new Set())).toBe("main-at-120");
    expect(suggestName(checkpoint, new Set(["main-at-120", "main-at-120-2"]))).toBe("main-at-120-3");
  });

  it.each(["", "../escape", "a b", "-x", "taken", "x".repeat(65)])("is refused when it is %j", (name) => {
    expect(nameProblem(name, new Set(["taken"]))).toBeTruthy();
  });

  it("is taken otherwise", () => {
    expect(nameProblem("calmer-lr.2", new Set(["taken"]))).toBeUndefined();
  });
});
