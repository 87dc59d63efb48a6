/** A command as the line that does the same in a terminal. */

type Arguments = Readonly<Record<string, unknown>>;

const PLAIN: Readonly<Record<string, string>> = {
  pause_training: "pause",
  resume_training: "resume",
  stop_training: "stop",
  save_checkpoint: "save",
  do_evaluate: "eval",
};

export function asCli(command: string, args: Arguments): string {
  const verb = PLAIN[command];
  if (verb !== undefined && Object.keys(args).length === 0) return `stovetop ${verb}`;
  return special(command, args) ?? generic(command, args);
}

function special(command: string, args: Arguments): string | undefined {
  if (command === "update_dataset_runtime_hyperparameters" && only(args, "weights")) return mix(args.weights);
  if (command === "update_optimizer" && only(args, "lr")) return learningRate(args.lr);
  if (command === "load_checkpoint" && typeof args.uuid === "string") return load(args);
  return undefined;
}

function mix(weights: unknown): string | undefined {
  if (!isRecord(weights)) return undefined;
  const pairs = Object.entries(weights);
  if (pairs.length === 0 || !pairs.every(([, weight]) => typeof weight === "number")) return undefined;
  return `stovetop mix ${pairs.map(([source, weight]) => quote(`${source}=${weight}`)).join(" ")}`;
}

function learningRate(lr: unknown): string | undefined {
  if (!isRecord(lr) || !only(lr, "value") || typeof lr.value !== "number") return undefined;
  return `stovetop lr ${lr.value}`;
}

function load(args: Arguments): string | undefined {
  if (only(args, "uuid")) return `stovetop load ${quote(String(args.uuid))}`;
  if (Object.keys(args).length !== 2 || typeof args.branch_name !== "string") return undefined;
  return `stovetop load ${quote(String(args.uuid))} --branch ${quote(args.branch_name)}`;
}

function generic(command: string, args: Arguments): string {
  const line = `stovetop send ${quote(command)}`;
  return Object.keys(args).length === 0 ? line : `${line} ${quote(JSON.stringify(args))}`;
}

/** Quoted for a POSIX shell, where that is needed. */
export function quote(word: string): string {
  return /^[A-Za-z0-9_./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function only(args: Arguments, name: string): boolean {
  const names = Object.keys(args);
  return names.length === 1 && names[0] === name;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
