/** A form made from the JSON Schema of a command's arguments: which fields there are, and what their texts mean. */
import { type Bounds, parseNumber } from "../ui/numbers";

type Schema = Readonly<Record<string, unknown>>;

export type FieldKind = "number" | "integer" | "boolean" | "text" | "choice" | "json";

export interface Field {
  name: string;
  kind: FieldKind;
  title: string;
  hint: string;
  required: boolean;
  /** It may be nothing at all: null. */
  nullable: boolean;
  bounds: Bounds;
  /** What may be chosen, for a choice. */
  choices: readonly (string | number | boolean | null)[];
  /** The value that holds when the field is left empty, as text. */
  fallback: string;
  /** The longest text. */
  longest: number | undefined;
}

/** The fields of a schema, the required ones first, each in the order of the schema. */
export function fieldsOf(root: Schema): Field[] {
  const schema = followed(root, root);
  const properties = isRecord(schema.properties) ? schema.properties : {};
  const required = Array.isArray(schema.required) ? schema.required : [];
  const fields = Object.entries(properties).map(([name, property]) =>
    fieldOf(root, name, isRecord(property) ? property : {}, required.includes(name)),
  );
  return [...fields.filter((field) => field.required), ...fields.filter((field) => !field.required)];
}

/** What was typed, as arguments; `problems` by field. An empty field that is not required is left out. */
export function argumentsOf(
  fields: readonly Field[],
  texts: Readonly<Record<string, string>>,
): { arguments: Record<string, unknown>; problems: Record<string, string> } {
  const found: Record<string, unknown> = {};
  const problems: Record<string, string> = {};
  for (const field of fields) {
    const text = texts[field.name] ?? "";
    if (text === "") {
      if (field.required) problems[field.name] = "This one is needed.";
      continue;
    }
    const read = readValue(field, text);
    if ("problem" in read) problems[field.name] = read.problem;
    else found[field.name] = read.value;
  }
  return { arguments: found, problems };
}

function readValue(field: Field, text: string): { value: unknown } | { problem: string } {
  switch (field.kind) {
    case "number":
      return parseNumber(text, field.bounds);
    case "integer": {
      const parsed = parseNumber(text, field.bounds);
      if ("value" in parsed && !Number.isInteger(parsed.value)) return { problem: "A whole number." };
      return parsed;
    }
    case "boolean":
      return { value: text === "true" };
    case "choice":
      return { value: field.choices.find((choice) => String(choice) === text) };
    case "json":
      return readJson(text);
    case "text":
      if (field.longest !== undefined && text.length > field.longest)
        return { problem: `At most ${field.longest} characters.` };
      return { value: text };
  }
}

function readJson(text: string): { value: unknown } | { problem: string } {
  try {
    return { value: JSON.parse(text) as unknown };
  } catch (error) {
    return { problem: `Not JSON: ${error instanceof Error ? error.message : String(error)}` };
  }
}

function fieldOf(root: Schema, name: string, property: Schema, required: boolean): Field {
  const schema = followed(root, property);
  const choices = Array.isArray(schema.enum)
    ? (schema.enum as Field["choices"])
    : schema.const !== undefined
      ? [schema.const as string]
      : [];
  const read = (key: string) => (typeof schema[key] === "number" ? (schema[key] as number) : undefined);
  const fallback = property.default ?? schema.default;
  return {
    name,
    kind: kindOf(schema, choices.length > 0),
    title: sentence(name),
    hint: text(property.description) || text(schema.description),
    required,
    nullable:
      Array.isArray(property.anyOf) && property.anyOf.some((one) => isRecord(one) && one.type === "null"),
    bounds: {
      minimum: read("minimum"),
      maximum: read("maximum"),
      exclusiveMinimum: read("exclusiveMinimum"),
      exclusiveMaximum: read("exclusiveMaximum"),
    },
    choices,
    fallback:
      fallback == null ? "" : typeof fallback === "object" ? JSON.stringify(fallback) : String(fallback),
    longest: read("maxLength"),
  };
}

function kindOf(schema: Schema, chosen: boolean): FieldKind {
  if (chosen) return "choice";
  if (schema.type === "number" || schema.type === "integer" || schema.type === "boolean") return schema.type;
  return schema.type === "string" ? "text" : "json";
}

/** References followed, and of `X or null` the X. What else may be several things stays as it is: JSON. */
function followed(root: Schema, schema: Schema, depth = 0): Schema {
  if (depth > 20) return schema;
  if (typeof schema.$ref === "string") {
    let at: unknown = root;
    for (const part of schema.$ref.replace(/^#\//, "").split("/")) at = isRecord(at) ? at[part] : undefined;
    return isRecord(at) ? followed(root, at, depth + 1) : schema;
  }
  for (const key of ["anyOf", "oneOf", "allOf"]) {
    const list = schema[key];
    if (!Array.isArray(list)) continue;
    const rest = list.filter((item) => isRecord(item) && item.type !== "null");
    const [only] = rest;
    if (rest.length === 1 && isRecord(only)) return followed(root, only, depth + 1);
  }
  return schema;
}

function sentence(name: string): string {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
