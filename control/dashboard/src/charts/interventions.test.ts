import { describe, expect, it } from "vitest";
import type { BranchInfo, CommandRecord, VersionInfo } from "../api/types";
import { marksOf } from "./interventions";

const command = (fields: Partial<CommandRecord>) =>
  ({
    command: "update_optimizer",
    arguments: { lr: { value: 1e-5 } },
    author: "ada",
    note: "",
    branch: "main",
    outcome: "success",
    step: 7,
    dry_run: false,
    ...fields,
  }) as CommandRecord;

describe("marks on the curves", () => {
  it("stand where a change took effect, with author and reason", () => {
    const [mark] = marksOf([command({ takes_effect_at: 8, note: "spikes" })], [], [], "main");
    expect(mark).toEqual({
      step: 8,
      kind: "intervention",
      label: "lr → 1e-5",
      title: "lr → 1e-5, by ada: “spikes”",
      agent: false,
    });
  });

  it("tell agents, who may do much, from people", () => {
    const marks = marksOf([command({ author: "data:bandit" }), command({})], [], [], "main");
    expect(marks.map(({ agent }) => agent)).toEqual([true, false]);
  });

  it("leave out what did not happen, what shows on no curve, and other branches", () => {
    const silent = [
      command({ outcome: "rejected" }),
      command({ outcome: null }),
      command({ command: "save_checkpoint", arguments: {} }),
      command({ branch: "other" }),
      command({ dry_run: true }),
    ];
    expect(marksOf(silent, [], [], "main")).toEqual([]);
  });

  it("come along from the branch that it was forked from, up to the fork", () => {
    const branches = [
      { branch: "main", parent: null, forked_at: null },
      { branch: "b", parent: "main", forked_at: 10 },
    ] as BranchInfo[];
    const commands = [
      command({ step: 8 }),
      command({ step: 10, takes_effect_at: 11 }),
      command({ step: 12 }),
      command({ step: 14, branch: "b" }),
    ];
    expect(marksOf(commands, [], branches, "b").map(({ step }) => step)).toEqual([8, 10, 11, 14]);
  });

  it("show versions and forks in order of their steps", () => {
    const versions = [{ version: 2, step: 30, branch: "b", action: "published", channels: ["stable"] }];
    const branches = [
      { branch: "b", forked_at: 10 },
      { branch: "main", forked_at: null },
    ];
    const marks = marksOf([], versions as VersionInfo[], branches as BranchInfo[], "b");
    expect(marks.map(({ step, label }) => [step, label])).toEqual([
      [10, "fork"],
      [30, "v2"],
    ]);
  });
});
