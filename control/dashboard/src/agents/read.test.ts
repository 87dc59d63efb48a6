import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readAgents } from "./read";

const state = {
  agents: {
    enabled: true,
    by_name: {
      safety: {
        enabled: true,
        kind: "rules",
        mode: "suggest",
        every: 1,
        spent: 2,
        limits: {
          budget: 20,
          commands: ["update_optimizer", "load_checkpoint"],
          min_lr: 1e-6,
          max_lr: 0.01,
          lr_factor: 2,
          shares: { live: [0.1, 0.6] },
          share_move: 0.25,
          cooldown_steps: 50,
          cooldown: 0,
          per_hour: null,
        },
        last: {
          step: 63,
          explanation: "the loss is above 2.4 since step 61",
          saw: { loss: 2.6, limit: 2.4, word: "x", sources: { live: { loss: 3 } } },
        },
        suggestion: {
          id: "a1",
          by: "rule:spike",
          explanation: "back to step 55",
          step: 63,
          commands: [{ command: "load_checkpoint", arguments: { uuid: "c" } }],
        },
      },
    },
  },
};

describe("readAgents", () => {
  it("reads what the agents' process tells", () => {
    const [agent] = readAgents(state)?.agents ?? [];
    expect(agent).toMatchObject({ name: "safety", acts: false, spent: 2, budget: 20, looked: 63 });
    expect(agent?.suggestion?.commands).toEqual([{ command: "load_checkpoint", arguments: { uuid: "c" } }]);
  });

  it("says what an agent may do, and what it saw", () => {
    const [agent] = readAgents(state)?.agents ?? [];
    expect(agent?.bounds).toEqual([
      "may send update optimizer, load checkpoint",
      "lr from 1e-6 to 0.01",
      "lr × or ÷ 2 at most at a time",
      "live from 10.0 % to 60.0 %",
      "a share by 25.0 % at most at a time",
      "rests 50 steps after an action",
    ]);
    expect(agent?.saw).toEqual([
      ["loss", 2.6],
      ["limit", 2.4],
      ["sources.live.loss", 3],
    ]);
  });

  it("knows when no agents are there", () => {
    expect(readAgents(undefined)).toBeUndefined();
    expect(readAgents({ agents: {} })).toBeUndefined();
  });

  it("takes anything without failing", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (byName) => {
        const read = readAgents({ agents: { by_name: byName } });
        expect(read?.agents.every(({ spent }) => typeof spent === "number")).toBe(true);
      }),
    );
  });
});
