import type { Bounds } from "../ui/numbers";

/** What the page reads out of the JSON Schema of a command's arguments: which there are, and their bounds. */

type Schema = Readonly<Record<string, unknown>>;

/** The schemas that may hold at `path`, references and alternatives followed. */
function schemasAt(root: Schema, path: readonly string[]): Schema[] {
  return descend(root, root, path, 0);
}

function descend(root: Schema, schema: Schema, path: readonly string[], depth: number): Schema[] {
  if (depth > 20) return []; // a schema that refers to itself
  const next = (inner: unknown, rest: readonly string[]) =>
    isRecord(inner) ? descend(root, inner, rest, depth + 1) : [];
  if (typeof schema.$ref === "string") return next(resolve(root, schema.$ref), path);
  const alternatives = [schema.anyOf, schema.oneOf, schema.allOf].flatMap((list) =>
    Array.isArray(list) ? list : [],
  );
  const found = alternatives.flatMap((inner) => next(inner, path));
  const [name, ...rest] = path;
  if (name === undefined) return [schema, ...found];
  return isRecord(schema.properties) ? [...next(schema.properties[name], rest), ...found] : found;
}

function resolve(root: Schema, reference: string): unknown {
  let at: unknown = root;
  for (const part of reference.replace(/^#\//, "").split("/")) at = isRecord(at) ? at[part] : undefined;
  return at;
}

/** The names of the arguments. */
export function argumentNames(root: Schema): string[] {
  return schemasAt(root, []).flatMap(({ properties }) =>
    isRecord(properties) ? Object.keys(properties) : [],
  );
}

/** Whether an argument may be given at all. */
export function accepts(root: Schema, ...path: string[]): boolean {
  return schemasAt(root, path).length > 0;
}

/** The bounds of a number; none where the schema says nothing. */
export function boundsOf(root: Schema, ...path: string[]): Bounds {
  const number = schemasAt(root, path).find(({ type }) => type === "number" || type === "integer");
  if (!number) return {};
  const read = (name: string) => (typeof number[name] === "number" ? number[name] : undefined);
  return {
    minimum: read("minimum"),
    maximum: read("maximum"),
    exclusiveMinimum: read("exclusiveMinimum"),
    exclusiveMaximum: read("exclusiveMaximum"),
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
