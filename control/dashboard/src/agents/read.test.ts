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
        limits: { budget: 20 },
        last: { step: 63, explanation: "the loss is above 2.4 since step 61" },
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
