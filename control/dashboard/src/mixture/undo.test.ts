import { describe, expect, it } from "vitest";
import type { CommandRecord } from "../api/types";
import { COMMAND, undoOf } from "./undo";

const before = { base: 0.5, live: 0.5 };
const after = { base: 0.2, live: 0.8 };

const command = (uuid: string, changes: Partial<CommandRecord> = {}): CommandRecord =>
  ({
    uuid,
    command: COMMAND,
    arguments: { weights: after },
    before: { weights: before },
    after: { weights: after },
    author: "ada",
    status: "success",
    outcome: "success",
    dry_run: false,
    ...changes,
  }) as CommandRecord;
const mine = new Set(["mine"]);

describe("undoing a mixture", () => {
  it("restores what was in force before it, weight by weight", () => {
    expect(undoOf([command("mine")], mine, after)).toEqual({ restores: before });
  });

  it("has nothing to do before anything was sent from here", () => {
    expect(undoOf([], mine, before).unavailable).toContain("no mixture was sent from this tab");
    expect(undoOf([command("theirs")], mine, after).unavailable).toContain("no mixture was sent");
    const pause = command("mine", { command: "pause_training", arguments: {} });
    expect(undoOf([pause], mine, before).unavailable).toContain("no mixture was sent");
  });

  it("is refused where somebody has changed the mixture since, and names them", () => {
    const undo = undoOf([command("theirs", { author: "rule:spike" }), command("mine")], mine, after);
    expect(undo).toMatchObject({ overtaken: true });
    expect(undo.unavailable).toContain("rule:spike has changed the mixture since");
  });

  it("looks past what came to nothing, whoever sent it", () => {
    const failed = command("theirs", { outcome: "rejected", before: null, after: null });
    const tried = command("tried", { dry_run: true });
    const other = command("other", { arguments: { temperature: 2 }, before: { temperature: 1 } });
    expect(undoOf([failed, tried, other, command("mine")], mine, after)).toEqual({ restores: before });
    expect(undoOf([command("mine", { outcome: "failed" })], mine, before).unavailable).toContain(
      "did not come off",
    );
  });

  it("waits for a mixture that is on its way", () => {
    const open = { outcome: null, before: null, after: null };
    expect(undoOf([command("mine", open)], mine, before).unavailable).toContain("on its way");
    const theirs = undoOf([command("theirs", open), command("mine")], mine, after);
    expect(theirs).toMatchObject({ overtaken: true });
  });

  it("is refused where something else is in force, as after a load", () => {
    expect(undoOf([command("mine")], mine, { base: 0.9, live: 0.1 }).unavailable).toContain("in force");
    expect(undoOf([command("mine")], mine, { ...after, more: 0.5 }).unavailable).toContain("in force");
  });

  it("is refused where the trainer did not say what was before", () => {
    expect(undoOf([command("mine", { before: null })], mine, after).unavailable).toContain("did not say");
  });
});
