import { describe, expect, it } from "vitest";
import { argumentsOf, fieldsOf } from "./fields";

const SCHEMA = {
  $defs: { Mode: { enum: ["soft", "hard"], type: "string" } },
  type: "object",
  required: ["strength"],
  properties: {
    mode: { $ref: "#/$defs/Mode", default: "soft" },
    strength: { type: "number", exclusiveMinimum: 0, maximum: 1, description: "How much." },
    rounds: { anyOf: [{ type: "integer", minimum: 1 }, { type: "null" }], default: null },
    quick: { type: "boolean", default: false },
    name: { type: "string", maxLength: 4 },
    spots: { type: "array", items: { type: "number" } },
    both: { anyOf: [{ type: "number" }, { type: "string" }] },
  },
};

describe("a form from a schema", () => {
  const fields = fieldsOf(SCHEMA);

  it("has a field for each argument, the required ones first", () => {
    expect(fields.map(({ name, kind }) => [name, kind])).toEqual([
      ["strength", "number"],
      ["mode", "choice"],
      ["rounds", "integer"],
      ["quick", "boolean"],
      ["name", "text"],
      ["spots", "json"],
      ["both", "json"],
    ]);
    expect(fields[0]).toMatchObject({ title: "Strength", hint: "How much.", required: true });
    expect(fields[1]).toMatchObject({ choices: ["soft", "hard"], fallback: "soft" });
  });

  it("makes arguments of what was typed and leaves out what was not", () => {
    const texts = { strength: "5e-1", mode: "hard", rounds: "3", quick: "true", spots: "[1, 2]" };
    expect(argumentsOf(fields, texts)).toEqual({
      arguments: { strength: 0.5, mode: "hard", rounds: 3, quick: true, spots: [1, 2] },
      problems: {},
    });
  });

  it("says what is wrong with each field", () => {
    const { problems } = argumentsOf(fields, { rounds: "1.5", name: "longer", spots: "[1," });
    expect(problems).toMatchObject({
      strength: "This one is needed.",
      rounds: "A whole number.",
      name: "At most 4 characters.",
    });
    expect(problems.spots).toContain("Not JSON");
    expect(argumentsOf(fields, { strength: "2" }).problems).toEqual({ strength: "At most 1." });
  });

  it("takes a schema without anything", () => {
    expect(fieldsOf({})).toEqual([]);
    expect(fieldsOf({ $ref: "#/$defs/Nothing" })).toEqual([]);
  });
});
