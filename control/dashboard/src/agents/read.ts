import { brief, percent } from "../ui/numbers";

export type Loose = Readonly<Record<string, unknown>>;

/** What an agent wants done, and why; it waits for somebody to accept it. */
export interface Suggestion {
  readonly id: string;
  readonly by: string;
  readonly explanation: string;
  readonly step: number;
  readonly commands: readonly { readonly command: string; readonly arguments: Record<string, unknown> }[];
}

export interface Chosen {
  readonly author: string;
  readonly time: number;
}

/** An agent as its process tells of it. */
export interface Agent {
  readonly name: string;
  readonly kind: string;
  readonly enabled: boolean;
  readonly acts: boolean;
  readonly every: number;
  readonly spent: number;
  readonly budget: number | null;
  /** Its limits as they hold, and as its settings file says them, by name; `every` is among them. */
  readonly limits: Loose;
  readonly filed: Loose;
  /** Who set a limit over the file, by its name. */
  readonly chosen: Readonly<Record<string, Chosen>>;
  /** What it may do, in words, one bound a line. */
  readonly bounds: readonly string[];
  /** The numbers that it decided on last, by name. */
  readonly saw: readonly (readonly [string, number])[];
  readonly looked: number | null;
  readonly said: string;
  readonly failed: string;
  /** Why it stands still, whatever its switch says. */
  readonly held: string;
  readonly resting: string;
  readonly suggestion: Suggestion | null;
}

export interface Agents {
  /** The switch over all of them. */
  readonly enabled: boolean;
  readonly agents: readonly Agent[];
}

/** The agents in a run's state; what is not as it should be is left out rather than shown wrong. */
export function readAgents(state: Loose | undefined): Agents | undefined {
  const told = record(state?.agents);
  const byName = record(told?.by_name);
  if (!told || !byName) return undefined;
  const agents = Object.entries(byName).flatMap(([name, value]) => {
    const one = record(value);
    return one ? [readAgent(name, one)] : [];
  });
  return { enabled: told.enabled !== false, agents };
}

function readAgent(name: string, one: Loose): Agent {
  const last = record(one.last) ?? {};
  const limits = record(one.limits) ?? {};
  const file = record(one.file) ?? {};
  return {
    name,
    kind: text(one.kind),
    enabled: one.enabled === true,
    acts: one.mode === "act",
    every: number(one.every) ?? 1,
    spent: number(one.spent) ?? 0,
    budget: number(limits.budget),
    limits: { every: one.every, ...limits },
    filed: { every: file.every, ...record(file.limits) },
    chosen: readChosen(record(one.chosen) ?? {}),
    bounds: boundsOf(limits),
    saw: numbersIn(record(last.saw) ?? {}),
    looked: number(last.step),
    said: text(last.explanation),
    failed: text(last.failed),
    held: text(one.held),
    resting: text(last.resting),
    suggestion: readSuggestion(record(one.suggestion)),
  };
}

function readChosen(told: Loose): Record<string, Chosen> {
  return Object.fromEntries(
    Object.entries(told).flatMap(([name, value]) => {
      const one = record(value);
      const chosen = { author: text(one?.author), time: number(one?.time) ?? 0 };
      return one ? [[name.replace(/^limits\./, ""), chosen]] : [];
    }),
  );
}

function boundsOf(limits: Loose): string[] {
  const value = (name: string) => number(limits[name]);
  const lines: string[] = [];
  const commands = Array.isArray(limits.commands) ? limits.commands.map((name) => text(name)) : [];
  if (commands.length > 0)
    lines.push(`may send ${commands.map((name) => name.replaceAll("_", " ")).join(", ")}`);
  const [least, most, factor] = [value("min_lr"), value("max_lr"), value("lr_factor")];
  if (least || most !== null)
    lines.push(`lr from ${brief(least ?? 0)}${most === null ? " up" : ` to ${brief(most)}`}`);
  if (factor !== null) lines.push(`lr × or ÷ ${brief(factor)} at most at a time`);
  for (const [source, range] of Object.entries(record(limits.shares) ?? {})) {
    if (Array.isArray(range))
      lines.push(`${source} from ${percent(Number(range[0]))} to ${percent(Number(range[1]))}`);
  }
  const move = value("share_move");
  if (move !== null) lines.push(`a share by ${percent(move)} at most at a time`);
  const rests = [
    [value("cooldown_steps"), "steps"],
    [value("cooldown"), "s"],
  ] as const;
  for (const [rest, unit] of rests) if (rest) lines.push(`rests ${brief(rest)} ${unit} after an action`);
  const hourly = value("per_hour");
  if (hourly !== null) lines.push(`${brief(hourly)} commands an hour at most`);
  return lines;
}

const MOST_NUMBERS = 12;

/** Numbers however deep, `a.b` for those of a group. */
function numbersIn(told: Loose, prefix = ""): [string, number][] {
  return Object.entries(told)
    .flatMap(([name, value]): [string, number][] => {
      const inner = record(value);
      if (inner) return numbersIn(inner, `${prefix}${name}.`);
      return typeof value === "number" ? [[`${prefix}${name}`, value]] : [];
    })
    .slice(0, MOST_NUMBERS);
}

function readSuggestion(told: Loose | undefined): Suggestion | null {
  if (!told || typeof told.id !== "string" || !Array.isArray(told.commands)) return null;
  return {
    id: told.id,
    by: text(told.by),
    explanation: text(told.explanation),
    step: number(told.step) ?? 0,
    commands: told.commands.flatMap((each) => {
      const one = record(each);
      return one && typeof one.command === "string"
        ? [{ command: one.command, arguments: { ...record(one.arguments) } }]
        : [];
    }),
  };
}

function record(value: unknown): Loose | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Loose) : undefined;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function number(value: unknown): number | null {
  return typeof value === "number" ? value : null;
}
