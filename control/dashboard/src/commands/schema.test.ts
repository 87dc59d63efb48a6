import { describe, expect, it } from "vitest";
import { accepts, argumentNames, boundsOf } from "./schema";

// As pydantic writes it: references, and `anyOf` with null for what may be left out.
const schema = {
  $defs: {
    Change: {
      type: "object",
      properties: {
        value: { anyOf: [{ type: "number", minimum: 0, maximum: 0.1 }, { type: "null" }] },
        scale: { anyOf: [{ type: "number", exclusiveMinimum: 0 }, { type: "null" }] },
      },
    },
    Loop: { anyOf: [{ $ref: "#/$defs/Loop" }] },
  },
  type: "object",
  properties: {
    lr: { anyOf: [{ $ref: "#/$defs/Change" }, { type: "null" }] },
    weight_decay: { type: "number", minimum: 0 },
    loop: { $ref: "#/$defs/Loop" },
  },
};

describe("a schema of arguments", () => {
  it("names the arguments", () => {
    expect(argumentNames(schema)).toEqual(["lr", "weight_decay", "loop"]);
  });

  it("gives the bounds behind references and alternatives", () => {
    expect(boundsOf(schema, "lr", "value")).toMatchObject({ minimum: 0, maximum: 0.1 });
    expect(boundsOf(schema, "lr", "scale")).toMatchObject({ exclusiveMinimum: 0 });
    expect(boundsOf(schema, "weight_decay")).toMatchObject({ minimum: 0, maximum: undefined });
  });

  it("tells whether an argument is taken, and of which form", () => {
    expect(accepts(schema, "lr", "scale")).toBe(true);
    expect(accepts(schema, "weight_decay", "value")).toBe(false);
    expect(accepts(schema, "momentum")).toBe(false);
  });

  it("ends on a schema that refers to itself", () => {
    expect(boundsOf(schema, "loop", "value")).toEqual({});
  });
});
