import { describe, expect, it } from "vitest";
import { changesOf, commandChoices, numberLimits, problemOf, rangesOf, readRanges } from "./limits";
import { readAgents } from "./read";

const SCHEMA = {
  properties: { enabled: {}, agents: {} },
  $defs: {
    Limits: {
      properties: {
        commands: {
          type: "array",
          items: { type: "string", not: { enum: ["pause_training", "set_agents"] } },
        },
        min_lr: { type: "number", minimum: 0 },
        max_lr: { anyOf: [{ type: "number", exclusiveMinimum: 0 }, { type: "null" }] },
        share_move: { type: "number", exclusiveMinimum: 0, maximum: 1 },
        shares: { type: "object" },
        budget: { anyOf: [{ type: "integer", minimum: 0 }, { type: "null" }] },
        patience: { type: "integer", minimum: 1, description: "A limit that a later version has." },
      },
    },
  },
};

const [AGENT] =
  readAgents({
    agents: {
      by_name: {
        safety: {
          every: 20,
          limits: { min_lr: 0, max_lr: null, share_move: 0.25, budget: 30, patience: 2 },
          file: { every: 20, limits: { budget: 20 } },
          chosen: { "limits.budget": { author: "ada", time: 1 } },
        },
      },
    },
  })?.agents ?? [];

const limits = AGENT ? numberLimits(SCHEMA, AGENT) : [];
const limit = (name: string) => {
  const found = limits.find((each) => each.name === name);
  if (!found) throw new Error(name);
  return found;
};

describe("the limits of an agent", () => {
  it("are those of the schema, with what is in force and what the file says of those set over it", () => {
    expect(limits.map(({ label, inForce, filed }) => [label, inForce, filed])).toEqual([
      ["Steps between two looks", "20", undefined],
      ["Least learning rate", "0", undefined],
      ["Largest learning rate", "none", undefined],
      ["A share moves at once by, in %", "25 %", undefined],
      ["Commands in this run", "30", "20"],
      ["Patience", "2", undefined],
    ]);
  });

  it("say what is wrong with a text", () => {
    expect(problemOf(limit("max_lr"), "0")).toBe("More than 0.");
    expect(problemOf(limit("max_lr"), "none")).toBeUndefined();
    expect(problemOf(limit("min_lr"), "none")).toContain("cannot be without");
    expect(problemOf(limit("budget"), "1.5")).toBe("A whole number.");
    expect(problemOf(limit("share_move"), "101")).toBe("At most 100.");
    expect(problemOf(limit("every"), "")).toBeUndefined();
  });

  it("become changes of what was touched, and of nothing else", () => {
    const texts = { every: "5", max_lr: "none", share_move: "12.5", budget: "file" };
    expect(changesOf(limits, { texts, commands: ["save_checkpoint"] })).toEqual({
      changes: {
        every: 5,
        limits: { max_lr: null, share_move: 0.125, budget: "file", commands: ["save_checkpoint"] },
      },
      broken: false,
    });
    expect(changesOf(limits, { texts: {} })).toEqual({ changes: {}, broken: false });
    expect(changesOf(limits, { texts: { budget: "x" } }).broken).toBe(true);
  });
});

describe("the ranges of shares", () => {
  it("are there for every source, also for one that the mixture lacks", () => {
    expect(rangesOf({ live: [0.1, 0.55], old: [0, 0.2] }, ["base", "live"])).toEqual({
      base: { least: "", most: "" },
      live: { least: "10", most: "55" },
      old: { least: "0", most: "20" },
    });
  });

  it("are read as parts of 1, where an empty one binds nothing", () => {
    const ranges = { base: { least: "", most: "" }, live: { least: "", most: "55" } };
    expect(readRanges(ranges)).toEqual({ value: { live: [0, 0.55] } });
    const { changes } = changesOf(limits, { texts: {}, shares: ranges });
    expect(changes).toEqual({ limits: { shares: { live: [0, 0.55] } } });
  });

  it.each([
    [{ live: { least: "60", most: "50" } }, "above its most"],
    [{ live: { least: "60", most: "" }, base: { least: "50", most: "" } }, "110 % together"],
    [{ live: { least: "", most: "101" } }, "The most of live: At most 100."],
  ])("%j: %s", (ranges, problem) => {
    const read = readRanges(ranges);
    expect("problem" in read && read.problem).toContain(problem);
    expect(changesOf(limits, { texts: {}, shares: ranges }).broken).toBe(true);
  });
});

describe("the commands that an agent may be allowed", () => {
  it("are those that somebody takes and are for agents, and those that it has", () => {
    expect(commandChoices(SCHEMA, ["shake", "pause_training", "set_agents"], ["reset"])).toEqual([
      "reset",
      "shake",
    ]);
  });
});
