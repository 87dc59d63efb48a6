import type { CommandRecord, Event, MixtureBody, RunDetail, RunStatus } from "../api/types";

/** What the page must ask for again, because an event says more than it carries. */
export type Stale = "run" | "versions" | "followers";

/** A run as it stands after `events`, those that its snapshot already holds left out. */
export function afterEvents(run: RunDetail, events: readonly Event[]): RunDetail {
  let next = run;
  for (const event of events) if ((event.seq ?? 0) > run.seq) next = afterEvent(next, event);
  return next;
}

function afterEvent(run: RunDetail, event: Event): RunDetail {
  const body = event.body ?? {};
  const told = { ...run, seq: event.seq ?? run.seq, last_event_at: event.time ?? run.last_event_at };
  switch (event.type) {
    case "metrics":
    case "evaluation":
      return { ...told, ...withMetrics(told, event) };
    case "run":
      return { ...told, ...withStatus(body) };
    case "mixture":
      return { ...told, mixture: body as unknown as MixtureBody };
    default:
      return told;
  }
}

function withMetrics(run: RunDetail, event: Event): Partial<RunDetail> {
  const body = event.body ?? {};
  const numbers = Object.entries(body).filter(([, value]) => typeof value === "number" || value === null);
  return {
    branch: event.branch ?? run.branch,
    step: event.step ?? run.step ?? null,
    metrics: {
      step: event.step ?? run.metrics?.step ?? null,
      time: event.time ?? run.last_event_at,
      branch: event.branch ?? run.branch,
      values: { ...run.metrics?.values, ...(Object.fromEntries(numbers) as Record<string, number | null>) },
    },
  };
}

function withStatus(body: Readonly<Record<string, unknown>>): Partial<RunDetail> {
  if (typeof body.desired === "string") return { desired: body.desired as RunDetail["desired"] };
  const change: Partial<RunDetail> = {};
  if (typeof body.status === "string") change.status = body.status as RunStatus;
  if (typeof body.reason === "string") change.reason = body.reason;
  return change;
}

/** What these events make stale. */
export function staleAfter(events: readonly Event[]): ReadonlySet<Stale> {
  const stale = new Set<Stale>();
  for (const event of events) {
    if (event.type === "version") stale.add("versions");
    if (event.type === "follower") stale.add("followers");
    if (
      event.type === "branch" ||
      event.type === "checkpoint" ||
      event.type === "actor" ||
      event.type === "agent"
    )
      stale.add("run");
    // An outcome may have changed what the actor says of itself, such as the optimizer's values.
    if (event.type === "command" && event.body?.outcome) stale.add("run");
  }
  return stale;
}

/** Commands, newest first, with those that `events` tell of. */
export function withCommands(
  known: readonly CommandRecord[],
  events: readonly Event[],
): readonly CommandRecord[] {
  const told = new Map<string, CommandRecord>();
  for (const event of events) {
    if (event.type !== "command" || typeof event.body?.uuid !== "string") continue;
    told.set(event.body.uuid, event.body as unknown as CommandRecord);
  }
  if (told.size === 0) return known;
  const updated = known.map((command) => told.get(command.uuid) ?? command);
  const uuids = new Set(known.map(({ uuid }) => uuid));
  const fresh = [...told.values()].filter(({ uuid }) => !uuids.has(uuid));
  return [...fresh, ...updated].sort((one, other) => other.received_at - one.received_at);
}
