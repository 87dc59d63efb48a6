/** The layers of a model, as a list of rows: what is open, what a search leaves, and what was found about each. */
import type { Event } from "../api/types";

export interface Layer {
  /** The dotted name; "" is the model itself. */
  name: string;
  type: string;
  operators: readonly string[];
  hyperparameters: readonly { name: string; value: number }[];
  children: readonly Layer[];
}

export interface LayerRow {
  layer: Layer;
  depth: number;
  /** Whether its children are shown; undefined where it has none. */
  open: boolean | undefined;
}

export interface Finding {
  check: string;
  message: string;
  level: "info" | "warning" | "error";
  step: number | null;
}

/** Reads what the trainer described; undefined where it is no layer. */
export function readLayer(told: unknown): Layer | undefined {
  if (!isRecord(told) || typeof told.name !== "string") return undefined;
  return {
    name: told.name,
    type: typeof told.module_type === "string" ? told.module_type : "",
    operators: list(told.operators).filter((item): item is string => typeof item === "string"),
    hyperparameters: list(told.hyperparameters).filter(isHyperparameter),
    children: list(told.children).flatMap((child) => readLayer(child) ?? []),
  };
}

/** The last part of the name. */
export function shortName(layer: Layer): string {
  return layer.name === "" ? layer.type : layer.name.slice(layer.name.lastIndexOf(".") + 1);
}

/** The rows to show. A search by name or type shows what it finds below all that it lies in, closed or not. */
export function rowsOf(root: Layer, opened: ReadonlySet<string>, search: string): LayerRow[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const rows: LayerRow[] = [];
  const place = (layer: Layer, depth: number) => {
    const open = layer.children.length === 0 ? undefined : words.length > 0 || opened.has(layer.name);
    const at = rows.push({ layer, depth, open });
    if (open) for (const child of layer.children) place(child, depth + 1);
    if (words.length > 0 && rows.length === at && !matches(layer, words)) rows.pop();
  };
  place(root, 0);
  return rows;
}

function matches(layer: Layer, words: readonly string[]): boolean {
  const text = `${layer.name} ${layer.type}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

/** The newest finding about each layer, from the newest health events: one about a parameter counts for its layer. */
export function findingsOf(events: readonly Event[]): ReadonlyMap<string, Finding> {
  const found = new Map<string, Finding>();
  for (const event of events) {
    if (event.type !== "health") continue;
    const body = event.body ?? {};
    const names = [body.layer, ...list(body.layers)].filter((name) => typeof name === "string");
    const finding: Finding = {
      check: String(body.check ?? ""),
      message: String(body.message ?? ""),
      level: event.level ?? "warning",
      step: event.step ?? null,
    };
    for (const name of names) found.set(name, finding);
  }
  return found;
}

/** What was found about a layer itself, or about one of its own parameters; and how many findings lie deeper. */
export function healthOf(
  layer: Layer,
  findings: ReadonlyMap<string, Finding>,
): { own: Finding | undefined; below: number } {
  const children = new Set(layer.children.map((child) => child.name));
  const prefix = layer.name === "" ? "" : `${layer.name}.`;
  let own = findings.get(layer.name);
  let below = 0;
  for (const [name, finding] of findings) {
    if (name === layer.name || !name.startsWith(prefix)) continue;
    const next = prefix + (name.slice(prefix.length).split(".")[0] ?? "");
    if (children.has(next)) below += 1;
    else own ??= finding;
  }
  return { own, below };
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function isHyperparameter(value: unknown): value is { name: string; value: number } {
  return isRecord(value) && typeof value.name === "string" && typeof value.value === "number";
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
