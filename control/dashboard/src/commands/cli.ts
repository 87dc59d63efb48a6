/** A command as the line that does the same in a terminal. */

type Arguments = Readonly<Record<string, unknown>>;

const PLAIN: Readonly<Record<string, string>> = {
  pause_training: "pause",
  resume_training: "resume",
  start_training: "start",
  stop_training: "stop --no-save", // `stop` alone saves first, which is a command of its own here
  save_checkpoint: "save",
  do_evaluate: "eval",
};

export function asCli(command: string, args: Arguments, note = ""): string {
  const verb = Object.keys(args).length === 0 ? PLAIN[command] : undefined;
  const line = verb === undefined ? (special(command, args) ?? generic(command, args)) : verb;
  return `stovetop ${line}${note ? ` --note ${quote(note)}` : ""}`;
}

function special(command: string, args: Arguments): string | undefined {
  switch (command) {
    case "update_dataset_runtime_hyperparameters":
      return only(args, "weights") ? mix(args.weights) : undefined;
    case "update_optimizer":
      return only(args, "lr") ? learningRate(args.lr) : undefined;
    case "set_agents":
      return agent(args);
    case "load_checkpoint":
      return load(args);
    case "promote_version":
      return move("promote", args);
    case "rollback_version":
      return move("rollback", args);
    default:
      return undefined;
  }
}

function mix(weights: unknown): string | undefined {
  if (!isRecord(weights)) return undefined;
  const pairs = Object.entries(weights);
  if (pairs.length === 0 || !pairs.every(([, weight]) => typeof weight === "number")) return undefined;
  return `mix ${pairs.map(([source, weight]) => quote(`${source}=${weight}`)).join(" ")}`;
}

function learningRate(lr: unknown): string | undefined {
  if (!isRecord(lr)) return undefined;
  if (only(lr, "value") && typeof lr.value === "number") return `lr ${lr.value}`;
  return only(lr, "scale") && typeof lr.scale === "number" ? `lr x${lr.scale}` : undefined;
}

/** The switches, and the limits of one agent. */
function agent({ enabled, agents, ...rest }: Arguments): string | undefined {
  if (Object.keys(rest).length > 0) return undefined;
  if (agents === undefined)
    return typeof enabled === "boolean" ? `agent all ${enabled ? "on" : "off"}` : undefined;
  const [one, ...others] = Object.entries(isRecord(agents) ? agents : {});
  if (enabled !== undefined || !one || others.length > 0 || !isRecord(one[1])) return undefined;
  const [name, told] = one;
  if (only(told, "enabled") && typeof told.enabled === "boolean")
    return `agent ${quote(name)} ${told.enabled ? "on" : "off"}`;
  if (only(told, "mode") && typeof told.mode === "string") return `agent ${quote(name)} ${told.mode}`;
  const { every, limits, ...further } = told;
  if (Object.keys(further).length > 0) return undefined;
  const given = { ...(every === undefined ? {} : { every }), ...(isRecord(limits) ? limits : {}) };
  const words = Object.entries(given).flatMap(([limit, value]) => limitWords(limit, value));
  return words.length > 0 ? `agent ${quote(name)} limits ${words.map(quote).join(" ")}` : undefined;
}

function limitWords(limit: string, value: unknown): string[] {
  if (value === null) return [`${limit}=none`];
  if (Array.isArray(value)) return [`${limit}=${value.join(",") || "none"}`];
  if (!isRecord(value)) return [`${limit}=${value}`];
  const ranges = Object.entries(value).map(
    ([source, range]) => `${limit}.${source}=${Array.isArray(range) ? range.join(":") : range}`,
  );
  return [`${limit}=none`, ...ranges]; // those that are not among them go
}

function load({ uuid, branch_name, ...rest }: Arguments): string | undefined {
  if (typeof uuid !== "string" || Object.keys(rest).length > 0) return undefined;
  if (branch_name === undefined) return `load ${quote(uuid)}`;
  return typeof branch_name === "string" ? `load ${quote(uuid)} --branch ${quote(branch_name)}` : undefined;
}

function move(verb: string, { version, channel, ...rest }: Arguments): string | undefined {
  if (Object.keys(rest).length > 0) return undefined;
  const words = [verb];
  if (typeof version === "number") words.push(String(version));
  if (typeof channel === "string") words.push(`--channel ${quote(channel)}`);
  return words.join(" ");
}

function generic(command: string, args: Arguments): string {
  const line = `send ${quote(command)}`;
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
