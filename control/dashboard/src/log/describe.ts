import type { Event } from "../api/types";
import { whyInWords } from "../checkpoints/reasons";
import { plain } from "../commands/words";
import { brief } from "../ui/numbers";

type Body = Readonly<Record<string, unknown>>;

/** An event as one line for people. */
export function describe(event: Event): string {
  const body: Body = event.body ?? {};
  switch (event.type) {
    case "run":
      return runLine(body);
    case "branch":
      return branchLine(event, body);
    case "checkpoint":
      return checkpointLine(body);
    case "version":
      return versionLine(body);
    case "actor":
      return `${text(body.kind) ?? "actor"} ${text(body.actor) ?? ""} ${text(body.action) ?? ""}${because(body)}`;
    case "agent":
      return agentLine(body);
    case "evaluation":
      return `evaluation: ${numbers(body)}`;
    default:
      return text(body.message) ?? JSON.stringify(body);
  }
}

function runLine(body: Body): string {
  if (typeof body.desired === "string") {
    const author = text(body.author);
    return `wanted: ${body.desired}${author ? `, by ${author}` : ""}`;
  }
  return `${text(body.status) ?? "changed"}${because(body)}`;
}

function branchLine(event: Event, body: Body): string {
  const from = typeof body.forked_at === "number" ? ` from step ${brief(body.forked_at)}` : "";
  const how = { load: "new branch", resume: "resumed", fresh: "began" }[String(body.reason)] ?? "began";
  return `${event.branch}: ${how}${from}`;
}

function checkpointLine(body: Body): string {
  const reason = text(body.reason);
  return `checkpoint ${text(body.action) ?? "saved"}${reason ? `: ${whyInWords(reason)}` : ""}`;
}

function versionLine(body: Body): string {
  const channel = text(body.channel);
  if (body.action === "sampled") return `v${plain(body.version)}: its samples are painted`;
  const action = (text(body.action) ?? "changed").replaceAll("_", " ");
  return `v${plain(body.version)} ${action}${channel ? ` · ${channel}` : ""}${because(body)}`;
}

function agentLine(body: Body): string {
  const said = text(body.reason) ?? text(body.explanation);
  return `${text(body.by) ?? text(body.agent) ?? "agent"} ${text(body.action) ?? "looked"}${said ? `: ${said}` : ""}`;
}

function numbers(body: Body): string {
  return Object.entries(body)
    .filter((entry): entry is [string, number] => typeof entry[1] === "number")
    .map(([name, value]) => `${name} ${brief(value)}`)
    .join(", ");
}

function because(body: Body): string {
  const reason = text(body.reason);
  return reason ? `: ${reason}` : "";
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}
