import { describe, expect, it } from "vitest";
import { changeOf, readPair, undoTexts } from "./change";

const bounded = {
  properties: {
    lr: { properties: { value: { type: "number", maximum: 0.1 }, scale: { type: "number" } } },
    weight_decay: { type: "number", minimum: 0 },
    momentum: { properties: { value: { type: "number" } } },
  },
};

describe("a change of the optimizer", () => {
  it("holds only what was typed", () => {
    const { arguments: args, broken } = changeOf(
      { mode: "value", texts: { lr: "1e-5", weight_decay: "" } },
      {},
    );
    expect(args).toEqual({ lr: { value: 1e-5 } });
    expect(broken).toBe(false);
  });

  it("scales the rate when asked to", () => {
    expect(changeOf({ mode: "scale", texts: { lr: "0.5" } }, {}).arguments).toEqual({ lr: { scale: 0.5 } });
  });

  it("gives each value the form that the trainer's schema wants", () => {
    const texts = { weight_decay: "0.01", momentum: "0.9", betas: "0.9, 0.99" };
    expect(changeOf({ mode: "value", texts }, bounded).arguments).toEqual({
      weight_decay: 0.01,
      momentum: { value: 0.9 },
      betas: { value: [0.9, 0.99] },
    });
  });

  it.each([
    ["value", "lr", "abc"],
    ["value", "lr", "0.2"],
    ["value", "lr", "-1"],
    ["scale", "lr", "0"],
    ["value", "weight_decay", "-0.1"],
    ["value", "betas", "0.9"],
  ] as const)("as %s refuses %s = %s", (mode, name, text) => {
    expect(changeOf({ mode, texts: { [name]: text } }, bounded).broken).toBe(true);
  });
});

it("reads betas in any spacing", () => {
  expect(readPair("0.9,0.95")).toEqual([0.9, 0.95]);
  expect(readPair(" 0.9   0.95 ")).toEqual([0.9, 0.95]);
  expect(readPair("0.9, 1.0")).toBeUndefined();
});

it("takes a change back with the values before it", () => {
  const before = { lr: 1e-4, betas: [0.9, 0.999], eps: 1e-8 };
  expect(undoTexts({ lr: { scale: 0.5 }, betas: [0.8, 0.9] }, before)).toEqual({
    lr: "0.0001",
    betas: "0.9, 0.999",
  });
  expect(undoTexts({ lr: { scale: 0.5 } }, null)).toEqual({});
});
