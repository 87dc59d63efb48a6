import { describe, expect, it } from "vitest";
import type { CommandRecord } from "../api/types";
import { stageOf, wish } from "./words";

describe("a wish in words", () => {
  it.each([
    ["update_optimizer", { lr: { value: 1e-5 } }, "lr → 1e-5"],
    ["update_optimizer", { lr: { scale: 0.5 }, weight_decay: 0.01 }, "lr × 0.5, weight decay → 0.01"],
    ["update_optimizer", { betas: [0.9, 0.99] }, "betas → [0.9,0.99]"],
    [
      "update_dataset_runtime_hyperparameters",
      { weights: { base: 1, live: 3 } },
      "mix base 25 % · live 75 %",
    ],
    ["load_checkpoint", { uuid: "x", branch_name: "calmer" }, "Load a checkpoint: calmer"],
    ["promote_version", { version: 12, channel: "stable" }, "Promote: stable"],
    ["pause_training", {}, "Pause"],
    ["set_agents", { enabled: false }, "all agents off"],
    [
      "set_agents",
      { agents: { safety: { mode: "act", every: 5, limits: { max_lr: 0.01, budget: null } } } },
      "safety acts, every → 5, max lr → 0.01, budget → none",
    ],
    ["shake_the_model", {}, "shake the model"],
  ])("%s %j", (command, args, words) => {
    expect(wish(command, args)).toBe(words);
  });
});

describe("the stage of a command", () => {
  const record = (fields: Partial<CommandRecord>) =>
    ({ status: "requested", dry_run: false, ...fields }) as CommandRecord;

  it.each([
    ["requested", "accepted"],
    ["pending", "queued"],
    ["running", "applying"],
  ] as const)("%s is open and reads %s", (status, word) => {
    expect(stageOf(record({ status }), 5)).toMatchObject({ word, open: true });
  });

  it("stays open after a success until training reaches the step that it takes effect at", () => {
    const command = record({ status: "success", outcome: "success", step: 9, takes_effect_at: 12 });
    expect(stageOf(command, 11)).toEqual({ word: "from step 12", tone: "good", open: true });
    expect(stageOf(command, 12)).toEqual({ word: "done at 12", tone: "good", open: false });
  });

  it.each(["failed", "rejected", "expired"] as const)("%s is bad and over", (outcome) => {
    expect(stageOf(record({ status: "failed", outcome }), 5)).toEqual({
      word: outcome,
      tone: "bad",
      open: false,
    });
  });
});
