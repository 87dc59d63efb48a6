import { accepts, boundsOf } from "../commands/schema";
import { type Bounds, parseNumber } from "../ui/numbers";

/** What the optimizer's form holds, and the command that it amounts to. */

type Schema = Readonly<Record<string, unknown>>;

export type RateMode = "value" | "scale" | "peak";

export interface Draft {
  mode: RateMode;
  /** As typed, by parameter; empty means unchanged. */
  texts: Readonly<Record<string, string>>;
}

export interface Change {
  arguments: Record<string, unknown>;
  /** Whether something typed is not a number, or out of bounds. */
  broken: boolean;
}

/** The arguments of `update_optimizer`: only what was typed. A pair such as the betas is typed as `0.9, 0.999`. */
export function changeOf(draft: Draft, schema: Schema): Change {
  const args: Record<string, unknown> = {};
  let broken = false;
  for (const [name, text] of Object.entries(draft.texts)) {
    if (text.trim() === "") continue;
    const value = name === "betas" ? readPair(text) : readNumber(text, boundsFor(name, draft.mode, schema));
    if (value === undefined) broken = true;
    else args[name] = wrap(name, draft.mode, value, schema);
  }
  return { arguments: args, broken };
}

export function boundsFor(name: string, mode: RateMode, schema: Schema): Bounds {
  if (name === "lr")
    return { exclusiveMinimum: mode === "scale" ? 0 : undefined, minimum: 0, ...told(schema, "lr", mode) };
  return accepts(schema, name, "value") ? boundsOf(schema, name, "value") : boundsOf(schema, name);
}

function told(schema: Schema, ...path: string[]): Bounds {
  return Object.fromEntries(
    Object.entries(boundsOf(schema, ...path)).filter(([, bound]) => bound !== undefined),
  );
}

/** A trainer takes `{"value": 0.1}` or 0.1, as its schema says; the paper's form where it says nothing. */
function wrap(name: string, mode: RateMode, value: unknown, schema: Schema): unknown {
  if (name === "lr") return { [mode]: value };
  const plain = accepts(schema, name) && !accepts(schema, name, "value");
  return plain ? value : { value };
}

function readNumber(text: string, bounds: Bounds): number | undefined {
  const parsed = parseNumber(text, bounds);
  return "value" in parsed ? parsed.value : undefined;
}

export function readPair(text: string): number[] | undefined {
  const numbers = text
    .split(/[,;\s]+/)
    .filter(Boolean)
    .map((part) => parseNumber(part, { minimum: 0, exclusiveMaximum: 1 }));
  const values = numbers.flatMap((parsed) => ("value" in parsed ? [parsed.value] : []));
  return numbers.length === 2 && values.length === 2 ? values : undefined;
}

/** What takes a change back: the values before it, of the parameters that it changed. */
export function undoTexts(args: Schema, before: unknown): Record<string, string> {
  if (typeof before !== "object" || before === null) return {};
  const old = before as Record<string, unknown>;
  return Object.fromEntries(
    Object.keys(args).flatMap((name) => {
      const value = old[name];
      if (typeof value === "number") return [[name, String(value)]];
      return Array.isArray(value) && value.every((part) => typeof part === "number")
        ? [[name, value.join(", ")]]
        : [];
    }),
  );
}
