/** What an agent wants done, and why; it waits for somebody to accept it. */
export interface Suggestion {
  readonly id: string;
  readonly by: string;
  readonly explanation: string;
  readonly step: number;
  readonly commands: readonly { readonly command: string; readonly arguments: Record<string, unknown> }[];
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
  readonly looked: number | null;
  readonly said: string;
  readonly failed: string;
  readonly resting: string;
  readonly suggestion: Suggestion | null;
}

export interface Agents {
  /** The switch over all of them. */
  readonly enabled: boolean;
  readonly agents: readonly Agent[];
}

type Loose = Readonly<Record<string, unknown>>;

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
  return {
    name,
    kind: text(one.kind),
    enabled: one.enabled === true,
    acts: one.mode === "act",
    every: number(one.every) ?? 1,
    spent: number(one.spent) ?? 0,
    budget: number(limits.budget),
    looked: number(last.step),
    said: text(last.explanation),
    failed: text(last.failed),
    resting: text(last.resting),
    suggestion: readSuggestion(record(one.suggestion)),
  };
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
