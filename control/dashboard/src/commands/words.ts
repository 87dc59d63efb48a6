import type { CommandRecord } from "../api/types";
import { percentages } from "../mixture/shares";
import { brief } from "../ui/numbers";

/** Commands in words for people: what was wanted, how it stands, and what is written on the curves. */

type Arguments = Readonly<Record<string, unknown>>;

const TITLES: Readonly<Record<string, string>> = {
  pause_training: "Pause",
  resume_training: "Resume",
  stop_training: "Stop",
  start_training: "Start",
  save_checkpoint: "Save a checkpoint",
  load_checkpoint: "Load a checkpoint",
  do_evaluate: "Evaluate",
  publish_checkpoint: "Publish",
  promote_version: "Promote",
  rollback_version: "Roll back",
  pin_version: "Pin",
  release_channel: "Release",
  update_optimizer: "Optimizer",
  update_dataset: "New data",
  update_dataset_runtime_hyperparameters: "Dataset",
  accept_suggestion: "Accept a suggestion",
  ask_agent: "Ask",
  model_layer_operation: "Layer",
  model_layer_parameter_update: "Layer",
};

const PARAMETERS: Readonly<Record<string, string>> = { learning_rate: "lr", max_grad_norm: "clip" };

/** What was wanted, in one short line: `lr → 1e-5`, `mix base 40 % · live 60 %`. */
export function wish(command: string, args: Arguments): string {
  if (command === "update_optimizer") return changes(args) || "Optimizer";
  if (command === "update_dataset_runtime_hyperparameters") {
    return isRecord(args.weights) ? mix(args.weights) : changes(args) || "Dataset";
  }
  if (command === "set_agents") return agents(args) || "Agents";
  const title = TITLES[command] ?? command.replaceAll("_", " ");
  const about = [args.branch_name, args.channel, version(args.version), args.layer_name].find(
    (value) => typeof value === "string",
  );
  return about === undefined ? title : `${title}: ${about}`;
}

function mix(weights: Arguments): string {
  const numbers = Object.entries(weights).filter(
    (entry): entry is [string, number] => typeof entry[1] === "number",
  );
  const shares = percentages(Object.fromEntries(numbers));
  return `mix ${Object.entries(shares)
    .map(([source, share]) => `${source} ${Math.round(share)} %`)
    .join(" · ")}`;
}

function changes(args: Arguments): string {
  return Object.entries(args)
    .map(([name, value]) => `${PARAMETERS[name] ?? name.replaceAll("_", " ")} ${change(value)}`)
    .join(", ");
}

/** `all agents off`, `safety acts, budget → 30`. */
function agents({ enabled, agents: byName }: Arguments): string {
  const all = typeof enabled === "boolean" ? [`all agents ${enabled ? "on" : "off"}`] : [];
  const single = Object.entries(isRecord(byName) ? byName : {}).map(
    ([name, told]) => `${name} ${isRecord(told) ? oneAgent(told) : plain(told)}`,
  );
  return [...all, ...single].join("; ");
}

function oneAgent({ enabled, mode, limits, ...rest }: Arguments): string {
  const words = [
    enabled === true ? "on" : enabled === false ? "off" : "",
    mode === "act" ? "acts" : mode === "suggest" ? "only suggests" : "",
    changes({ ...rest, ...(isRecord(limits) ? limits : {}) }),
  ];
  return words.filter(Boolean).join(", ");
}

function change(value: unknown): string {
  if (isRecord(value) && typeof value.scale === "number") return `× ${brief(value.scale)}`;
  if (isRecord(value) && "value" in value) return `→ ${plain(value.value)}`;
  return `→ ${plain(value)}`;
}

/** Any value in few characters. */
export function plain(value: unknown): string {
  if (typeof value === "number") return brief(value);
  if (typeof value === "string") return value;
  if (value === null) return "none";
  return JSON.stringify(value) ?? "nothing";
}

function version(value: unknown): string | undefined {
  return typeof value === "number" ? `v${value}` : undefined;
}

export type Tone = "good" | "warn" | "bad" | "calm";

export interface Stage {
  word: string;
  tone: Tone;
  /** Whether more is to come: no outcome yet, or an outcome whose step has not been reached. */
  open: boolean;
}

/** How a command stands, never claiming more than the trainer said. `step` is where training is now. */
export function stageOf(command: CommandRecord, step: number | null | undefined): Stage {
  switch (command.outcome) {
    case "success":
      return succeeded(command, step);
    case "failed":
    case "rejected":
    case "expired":
      return { word: command.outcome, tone: "bad", open: false };
    case "superseded":
      return { word: "superseded", tone: "warn", open: false };
    default:
      break;
  }
  if (command.status === "running") return { word: "applying", tone: "calm", open: true };
  if (command.status === "pending") return { word: "queued", tone: "calm", open: true };
  return { word: "accepted", tone: "calm", open: true };
}

function succeeded(command: CommandRecord, step: number | null | undefined): Stage {
  if (command.dry_run) return { word: "would do", tone: "calm", open: false };
  const from = command.takes_effect_at;
  if (from != null && (step == null || step < from)) {
    return { word: `from step ${brief(from)}`, tone: "good", open: true };
  }
  const at = from ?? command.step;
  return { word: at == null ? "done" : `done at ${brief(at)}`, tone: "good", open: false };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
