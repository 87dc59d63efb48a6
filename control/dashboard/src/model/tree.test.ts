import { describe, expect, it } from "vitest";
import type { Event } from "../api/types";
import { findingsOf, healthOf, readLayer, rowsOf } from "./tree";

const told = (name: string, type: string, children: unknown[] = []) => ({
  name,
  module_type: type,
  operators: ["requires_grad_"],
  hyperparameters: type === "Dropout" ? [{ name: "p", value: 0.1 }] : [],
  children,
});
const model = readLayer(
  told("", "GPT2", [
    told("h", "ModuleList", [
      told("h.0", "Block", [told("h.0.attn", "Attention"), told("h.0.drop", "Dropout")]),
      told("h.1", "Block", [told("h.1.attn", "Attention")]),
    ]),
    told("head", "Linear"),
  ]),
);

const health = (layer: string, step: number): Event => ({
  seq: step,
  time: 0,
  run: "r",
  type: "health",
  branch: "main",
  step,
  level: "warning",
  body: { check: "dead", message: `${layer} is dead`, layer },
});

describe("the tree of a model", () => {
  if (!model) throw new Error("it was not read");
  const names = (opened: string[], search = "") =>
    rowsOf(model, new Set(opened), search).map(({ layer }) => layer.name);

  it("shows what is open", () => {
    expect(names([])).toEqual([""]);
    expect(names(["", "h"])).toEqual(["", "h", "h.0", "h.1", "head"]);
  });

  it("shows what a search finds below all that it lies in", () => {
    expect(names([], "dropout")).toEqual(["", "h", "h.0", "h.0.drop"]);
    expect(names([], "h.1 attn")).toEqual(["", "h", "h.1", "h.1.attn"]);
    expect(names([], "nothing")).toEqual([]);
  });

  it("says of each layer what was found about it, and how much lies deeper", () => {
    const findings = findingsOf([health("h.0.attn", 3), health("h.0.attn", 9), health("head.weight", 4)]);
    const [root, , block, attention] = rowsOf(model, new Set(["", "h", "h.0"]), "").map(({ layer }) =>
      healthOf(layer, findings),
    );
    expect(root).toMatchObject({ own: undefined, below: 2 });
    expect(block).toMatchObject({ own: undefined, below: 1 });
    expect(attention?.own).toMatchObject({ step: 9 });
    const head = rowsOf(model, new Set([""]), "").find(({ layer }) => layer.name === "head")?.layer;
    expect(head && healthOf(head, findings).own).toMatchObject({ message: "head.weight is dead" });
  });

  it("leaves out what is no layer", () => {
    expect(readLayer(null)).toBeUndefined();
    expect(readLayer({ name: "x", children: [1, { name: "x.y" }] })?.children).toHaveLength(1);
  });
});
