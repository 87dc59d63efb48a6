import { describe, expect, it } from "vitest";
import type { BranchInfo, CheckpointInfo } from "../api/types";
import { branchTree, lineageOf, nameProblem, suggestName } from "./branches";

const branch = (name: string, parent: string | null, forked_at: number | null, time = 0): BranchInfo => ({
  branch: name,
  parent,
  forked_at,
  time,
  segments: [],
  title: "",
  note: "",
  deleted: false,
});

describe("the tree of branches", () => {
  it("puts each below the one it was forked from, older forks first", () => {
    const rows = branchTree([
      branch("late", "main", 90),
      branch("leaf", "early", 50),
      branch("main", null, null),
      branch("early", "main", 40),
    ]);
    expect(rows.map((row) => [row.branch.branch, row.depth])).toEqual([
      ["main", 0],
      ["early", 1],
      ["leaf", 2],
      ["late", 1],
    ]);
  });

  it("hides nobody whose parent is unknown", () => {
    expect(branchTree([branch("orphan", "gone", 10)]).map((row) => row.branch.branch)).toEqual(["orphan"]);
  });
});

describe("the lineage of a branch", () => {
  it("counts each branch up to where the next one left it", () => {
    const branches = [branch("main", null, null), branch("early", "main", 40), branch("leaf", "early", 50)];
    expect([...lineageOf(branches, "leaf")]).toEqual([
      ["leaf", Number.POSITIVE_INFINITY],
      ["early", 50],
      ["main", 40],
    ]);
  });

  it("ends where a branch is its own ancestor", () => {
    expect([...lineageOf([branch("a", "b", 1), branch("b", "a", 2)], "a").keys()]).toEqual(["a", "b"]);
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
