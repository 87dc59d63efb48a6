import { type Field, fieldsOf } from "../forms/fields";
import { brief, parseNumber } from "../ui/numbers";
import type { Agent, Loose } from "./read";

/** What an operator sets of an agent's limits: which there are, how they stand, and what was typed as `set_agents` takes it. */

/** As a value: what the settings file says is to hold again. */
export const FILE = "file";
const NONE = "none";

/** A limit that is one number. Parts of 1 are shown, and typed, as percentages. */
export interface NumberLimit {
  readonly name: string;
  readonly label: string;
  readonly field: Field;
  readonly percent: boolean;
  readonly inForce: string;
  /** What the file says, where somebody set another value over it. */
  readonly filed: string | undefined;
}

const LABELS: Readonly<Record<string, string>> = {
  every: "Steps between two looks",
  min_lr: "Least learning rate",
  max_lr: "Largest learning rate",
  lr_factor: "Factor on the rate at once",
  share_move: "A share moves at once by, in %",
  cooldown_steps: "Steps between two actions",
  cooldown: "Seconds between two actions",
  budget: "Commands in this run",
  per_hour: "Commands an hour",
};
const PERCENT: ReadonlySet<string> = new Set(["share_move"]);

const EVERY: Field = {
  name: "every",
  kind: "integer",
  title: "Every",
  hint: "",
  required: false,
  nullable: false,
  bounds: { minimum: 1 },
  choices: [],
  fallback: "",
  longest: undefined,
};

/** The limits that are numbers, by the schema that the agents gave of their command. */
export function numberLimits(schema: Loose, agent: Agent): NumberLimit[] {
  const numbers = limitFields(schema).filter(({ kind }) => kind === "number" || kind === "integer");
  return [EVERY, ...numbers].map((field) => {
    const { name } = field;
    const percent = PERCENT.has(name);
    return {
      name,
      label: LABELS[name] ?? field.title,
      field: percent ? { ...field, bounds: inPercent(field.bounds) } : field,
      percent,
      inForce: shown(agent.limits[name], percent),
      filed: name in agent.chosen ? shown(agent.filed[name], percent) : undefined,
    };
  });
}

/** What is wrong with what was typed, if anything; an empty field stays as it is. */
export function problemOf(limit: NumberLimit, text: string): string | undefined {
  const read = readNumber(limit, text);
  return read && "problem" in read ? read.problem : undefined;
}

function readNumber(
  { field, percent }: NumberLimit,
  text: string,
): { value: unknown } | { problem: string } | undefined {
  const trimmed = text.trim();
  if (trimmed === "") return undefined;
  if (trimmed === FILE) return { value: FILE };
  if (trimmed === NONE) {
    return field.nullable ? { value: null } : { problem: "It cannot be without; type a number." };
  }
  const parsed = parseNumber(trimmed, field.bounds);
  if ("problem" in parsed) return parsed;
  if (field.kind === "integer" && !Number.isInteger(parsed.value)) return { problem: "A whole number." };
  return { value: percent ? Number((parsed.value / 100).toPrecision(12)) : parsed.value };
}

/** The least and the largest share of one source as typed, in percent; both empty: any. */
export interface Range {
  readonly least: string;
  readonly most: string;
}

export type Ranges = Readonly<Record<string, Range>>;

/** The ranges that hold, for every source of the mixture and every one that has a range. */
export function rangesOf(shares: unknown, sources: readonly string[]): Ranges {
  const ranges = isRecord(shares) ? shares : {};
  const names = [...new Set([...sources, ...Object.keys(ranges)])];
  return Object.fromEntries(
    names.map((name) => {
      const range = ranges[name];
      const [least, most] = Array.isArray(range) ? range : [];
      return [name, { least: inPercentText(least), most: inPercentText(most) }];
    }),
  );
}

/** The ranges as `set_agents` takes them, or what is wrong with them. */
export function readRanges(
  ranges: Ranges,
): { value: Record<string, [number, number]> } | { problem: string } {
  const value: Record<string, [number, number]> = {};
  for (const [source, { least, most }] of Object.entries(ranges)) {
    if (least.trim() === "" && most.trim() === "") continue;
    const bounds = { minimum: 0, maximum: 100 };
    const [low, high] = [parseNumber(least.trim() || "0", bounds), parseNumber(most.trim() || "100", bounds)];
    if ("problem" in low) return { problem: `The least of ${source}: ${low.problem}` };
    if ("problem" in high) return { problem: `The most of ${source}: ${high.problem}` };
    if (low.value > high.value) return { problem: `The least of ${source} is above its most.` };
    value[source] = [part(low.value), part(high.value)];
  }
  const together = Object.values(value).reduce((sum, [low]) => sum + low, 0);
  if (together > 1 + 1e-9)
    return { problem: `The least come to ${brief(together * 100)} % together; lower some of them.` };
  return { value };
}

/** Commands that an agent can be allowed: those that somebody takes and are for agents, and those it has already. */
export function commandChoices(
  schema: Loose,
  taken: readonly string[],
  allowed: readonly string[],
): string[] {
  const told = at(limitsSchema(schema), "properties", "commands", "items", "not", "enum");
  const forbidden = Array.isArray(told) ? told : [];
  return [...new Set([...taken.filter((name) => !forbidden.includes(name)), ...allowed])].sort();
}

export interface Draft {
  readonly texts: Readonly<Record<string, string>>;
  /** Undefined while they are as they hold; `FILE` to have the file's again. */
  readonly shares?: Ranges | typeof FILE | undefined;
  readonly commands?: readonly string[] | typeof FILE | undefined;
}

/** What was set up, as the changes of one agent in `set_agents`; and whether something of it cannot be sent. */
export function changesOf(
  limits: readonly NumberLimit[],
  draft: Draft,
): { changes: Record<string, unknown>; broken: boolean } {
  const found: Record<string, unknown> = {};
  let broken = false;
  for (const limit of limits) {
    const read = readNumber(limit, draft.texts[limit.name] ?? "");
    if (!read) continue;
    if ("problem" in read) broken = true;
    else found[limit.name] = read.value;
  }
  if (draft.shares === FILE) found.shares = FILE;
  else if (draft.shares) {
    const read = readRanges(draft.shares);
    if ("problem" in read) broken = true;
    else found.shares = read.value;
  }
  if (draft.commands) found.commands = draft.commands;
  const { every, ...rest } = found;
  const changes = {
    ...(every === undefined ? {} : { every }),
    ...(Object.keys(rest).length > 0 ? { limits: rest } : {}),
  };
  return { changes, broken };
}

function limitsSchema(schema: Loose): Loose {
  const found = at(schema, "$defs", "Limits");
  return isRecord(found) ? found : {};
}

function limitFields(schema: Loose): Field[] {
  return fieldsOf(limitsSchema(schema));
}

function at(schema: Loose, ...path: string[]): unknown {
  let found: unknown = schema;
  for (const name of path) found = isRecord(found) ? found[name] : undefined;
  return found;
}

function inPercent(bounds: Field["bounds"]): Field["bounds"] {
  return Object.fromEntries(
    Object.entries(bounds).map(([name, value]) => [name, value === undefined ? undefined : value * 100]),
  );
}

function shown(value: unknown, percent: boolean): string {
  if (typeof value !== "number") return NONE;
  return percent ? `${inPercentText(value)} %` : brief(value);
}

function inPercentText(value: unknown): string {
  return typeof value === "number" ? String(Number((value * 100).toPrecision(6))) : "";
}

function part(percent: number): number {
  return Number((percent / 100).toPrecision(12));
}

function isRecord(value: unknown): value is Loose {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
