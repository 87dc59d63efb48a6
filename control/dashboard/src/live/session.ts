import type { QueryClient } from "@tanstack/react-query";
import type { Api } from "../api/client";
import type { CommandRecord, Event, RunDetail, SeriesPage } from "../api/types";
import { requestFrame } from "../charts/frames";
import { MetricStore } from "./metrics";
import { Observable } from "./observable";
import { afterEvents, type Stale, staleAfter, withCommands } from "./reduce";
import { EventStream, type Link } from "./stream";

export const keys = {
  runs: ["runs"] as const,
  run: (run: string) => ["run", run] as const,
  commands: (run: string) => ["commands", run] as const,
  versions: (run: string) => ["versions", run] as const,
  followers: (run: string) => ["followers", run] as const,
};

const FLUSH = 200;
const REFETCH = 500;
const LOG_LENGTH = 500;
/** Many a second and drawn elsewhere: no lines of the log. */
const UNLOGGED: ReadonlySet<Event["type"]> = new Set([
  "metrics",
  "command",
  "mixture",
  "pipeline",
  "follower",
]);

/**
 * One run, followed live: a snapshot of everything, then the stream of events from where the snapshot ends.
 *
 * Points go into typed arrays, the rest into the query cache, at most a few times a second however fast events come.
 */
export class RunSession {
  readonly metrics = new MetricStore();
  readonly log = new Observable<readonly Event[]>([]);
  readonly link = new Observable<Link>({ state: "connecting" });
  readonly problem = new Observable<Error | undefined>(undefined);
  private stream: EventStream | undefined;
  private waiting: Event[] = [];
  private stale = new Set<Stale>();
  private timers = new Set<ReturnType<typeof setTimeout>>();
  private pointsUpTo = 0;
  private stopped = false;

  constructor(
    readonly run: string,
    private readonly api: Api,
    private readonly cache: QueryClient,
  ) {}

  start(): void {
    void this.load();
  }

  stop(): void {
    this.stopped = true;
    this.stream?.stop();
    for (const timer of this.timers) clearTimeout(timer);
  }

  retryNow(): void {
    if (this.stream) this.stream.retryNow();
    else void this.load();
  }

  private async load(): Promise<void> {
    try {
      const [detail, series, commands, events] = await Promise.all([
        this.api.run(this.run),
        this.api.series(this.run),
        this.api.commands(this.run),
        this.api.events(this.run),
      ]);
      if (this.stopped) return;
      this.problem.set(undefined);
      this.cache.setQueryData(keys.run(this.run), detail);
      this.cache.setQueryData(keys.commands(this.run), commands);
      this.fill(series);
      this.log.set(events.filter((event) => !UNLOGGED.has(event.type)).slice(-LOG_LENGTH));
      for (const key of [keys.versions(this.run), keys.followers(this.run), keys.runs]) this.refetch(key);
      this.follow(Math.min(detail.seq, series.seq));
    } catch (error) {
      if (this.stopped) return;
      this.problem.set(error instanceof Error ? error : new Error(String(error)));
      this.later(() => void this.load(), 2000);
    }
  }

  private fill(page: SeriesPage): void {
    this.metrics.clear();
    this.pointsUpTo = page.seq;
    for (const series of page.series)
      this.metrics.fill(series.branch, series.metric, series.steps, series.mean);
    requestFrame();
  }

  private follow(since: number): void {
    this.stream?.stop();
    const stream = new EventStream(
      {
        open: (from) => this.api.watch(this.run, from),
        probe: () => this.api.alive(),
        onEvents: (events) => this.receive(events),
        onGap: () => void this.load(),
      },
      since,
    );
    this.stream = stream;
    stream.link.subscribe(() => this.link.set(stream.link.get()));
    stream.start();
  }

  private receive(events: readonly Event[]): void {
    for (const event of events) {
      if (event.type !== "metrics" && event.type !== "evaluation") continue;
      if (event.step == null || (event.seq ?? 0) <= this.pointsUpTo) continue;
      this.metrics.add(event.branch ?? "main", event.step, event.body ?? {});
    }
    requestFrame();
    this.waiting.push(...events);
    if (this.waiting.length === events.length) this.later(() => this.flush(), FLUSH);
  }

  private flush(): void {
    const events = this.waiting;
    this.waiting = [];
    this.cache.setQueryData<RunDetail>(keys.run(this.run), (known) => known && afterEvents(known, events));
    this.cache.setQueryData<readonly CommandRecord[]>(
      keys.commands(this.run),
      (known) => known && withCommands(known, events),
    );
    const lines = events.filter((event) => !UNLOGGED.has(event.type));
    if (lines.length > 0) this.log.set([...this.log.get(), ...lines].slice(-LOG_LENGTH));
    const fresh = staleAfter(events);
    if (this.stale.size === 0 && fresh.size > 0) this.later(() => this.refetchStale(), REFETCH);
    for (const what of fresh) this.stale.add(what);
  }

  private refetchStale(): void {
    for (const what of this.stale) this.refetch(keys[what](this.run));
    this.stale.clear();
  }

  private refetch(queryKey: readonly string[]): void {
    void this.cache.invalidateQueries({ queryKey });
  }

  private later(act: () => void, milliseconds: number): void {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      act();
    }, milliseconds);
    this.timers.add(timer);
  }
}
