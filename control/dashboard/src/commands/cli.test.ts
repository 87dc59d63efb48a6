import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { asCli, quote } from "./cli";

describe("a command as a line of the terminal", () => {
  it.each([
    ["pause_training", {}, "stovetop pause"],
    ["do_evaluate", {}, "stovetop eval"],
    ["save_checkpoint", {}, "stovetop save"],
    ["update_optimizer", { lr: { value: 1e-5 } }, "stovetop lr 0.00001"],
    ["update_optimizer", { lr: { value: 1e-7 } }, "stovetop lr 1e-7"],
    ["update_optimizer", { lr: { scale: 0.5 } }, "stovetop lr x0.5"],
    ["update_optimizer", { lr: { peak: 0.5 } }, `stovetop send update_optimizer '{"lr":{"peak":0.5}}'`],
    ["stop_training", {}, "stovetop stop --no-save"],
    ["promote_version", { version: 12, channel: "stable" }, "stovetop promote 12 --channel stable"],
    ["rollback_version", { channel: "stable" }, "stovetop rollback --channel stable"],
    [
      "update_dataset_runtime_hyperparameters",
      { weights: { live: 0.5, base: 0.5 } },
      "stovetop mix live=0.5 base=0.5",
    ],
    [
      "update_dataset_runtime_hyperparameters",
      { temperature: 2 },
      `stovetop send update_dataset_runtime_hyperparameters '{"temperature":2}'`,
    ],
    ["load_checkpoint", { uuid: "c1" }, "stovetop load c1"],
    ["load_checkpoint", { uuid: "c1", branch_name: "try a" }, "stovetop load c1 --branch 'try a'"],
    ["freeze layer", { name: "it's" }, `stovetop send 'freeze layer' '{"name":"it'\\''s"}'`],
    ["set_agents", { enabled: false }, "stovetop agent all off"],
    ["set_agents", { agents: { tuner: { mode: "act" } } }, "stovetop agent tuner act"],
    ["set_agents", { agents: { tuner: { enabled: true } } }, "stovetop agent tuner on"],
    [
      "set_agents",
      { agents: { tuner: { every: 5, limits: { max_lr: 0.01, budget: null, commands: ["a", "b"] } } } },
      "stovetop agent tuner limits every=5 max_lr=0.01 budget=none commands=a,b",
    ],
    [
      "set_agents",
      { agents: { data: { limits: { shares: { live: [0.1, 0.6] } } } } },
      "stovetop agent data limits shares=none shares.live=0.1:0.6",
    ],
    ["reset_counters", {}, "stovetop send reset_counters"],
  ])("%s %j", (command, args, line) => {
    expect(asCli(command, args)).toBe(line);
  });

  it("takes the reason along", () => {
    expect(asCli("pause_training", {}, "it's hot")).toBe(`stovetop pause --note 'it'\\''s hot'`);
  });

  it("keeps every argument that it cannot shorten", () => {
    const args = { lr: { value: 1e-4 }, weight_decay: 0.01 };
    expect(asCli("update_optimizer", args)).toContain(JSON.stringify(args));
  });
});

describe("quoting", () => {
  it("undoes to the same word in a shell, whatever the word", () => {
    const unquote = (text: string) =>
      text.startsWith("'") ? text.slice(1, -1).replaceAll("'\\''", "'") : text;
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), (word) => {
        expect(unquote(quote(word))).toBe(word);
      }),
    );
  });
});
