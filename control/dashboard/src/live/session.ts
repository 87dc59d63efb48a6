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
const REFRESH = 400;
/** What an actor says of itself may change without an event; this often the run is asked for anew. */
const REFRESH_ANYWAY = 10_000;
const RETRY = 2000;
const LOG_LENGTH = 500;
const RECENT = 2000;
/** What makes a line of the log. The other types come many a second, or are drawn elsewhere. */
const LOGGED: Event["type"][] = [
  "run",
  "checkpoint",
  "branch",
  "evaluation",
  "version",
  "health",
  "log",
  "actor",
  "agent",
];

/**
 * One run, followed live: a snapshot of everything, then the stream of events from where the snapshot ends.
 *
 * Points go into typed arrays, the rest into the query cache, at most a few times a second however fast events come.
 */
export class RunSession {
  readonly metrics = new MetricStore();
  readonly log = new Observable<readonly Event[]>([]);
  readonly link = new Observable<Link>({ state: "connecting" });
  /** Why the snapshot could not be loaded; it is tried again until it is. */
  readonly problem = new Observable<Error | undefined>(undefined);
  private stream: EventStream | undefined;
  private waiting: Event[] = [];
  private recent: Event[] = [];
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
    this.refreshRegularly();
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

  /** Shows a command that was just sent, before the stream tells of it. */
  tell(record: CommandRecord): void {
    this.cache.setQueryData<readonly CommandRecord[]>(keys.commands(this.run), (known = []) =>
      known.some(({ uuid }) => uuid === record.uuid) ? known : [record, ...known],
    );
  }

  private async load(): Promise<void> {
    try {
      const detail = await this.api.run(this.run);
      const [series, commands, events] = await Promise.all([
        this.api.series(this.run),
        this.api.commands(this.run),
        this.api.newestEvents(this.run, LOGGED, detail.seq),
      ]);
      if (this.stopped) return;
      this.problem.set(undefined);
      this.recent = [];
      this.cache.setQueryData(keys.run(this.run), detail);
      this.cache.setQueryData(keys.commands(this.run), commands);
      this.fill(series);
      // The stream tells the later ones again.
      this.log.set(events.filter((event) => (event.seq ?? 0) <= detail.seq));
      this.follow(detail.seq);
      void this.refresh("versions");
      void this.refresh("followers");
    } catch (error) {
      if (this.stopped) return;
      this.problem.set(error instanceof Error ? error : new Error(String(error)));
      this.later(() => void this.load(), RETRY);
    }
  }

  private fill(page: SeriesPage): void {
    this.metrics.clear();
    this.pointsUpTo = page.seq;
    for (const series of page.series) this.metrics.fill(series);
    requestFrame();
  }

  private follow(since: number): void {
    this.stream?.stop();
    const stream = new EventStream(
      {
        open: (from) => this.api.watch(this.run, from),
        probe: () => this.api.probe(),
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
    if (this.waiting.length === 0) this.later(() => this.flush(), FLUSH);
    this.waiting.push(...events);
  }

  private flush(): void {
    const events = this.waiting;
    this.waiting = [];
    this.recent = [...this.recent, ...events].slice(-RECENT);
    this.cache.setQueryData<RunDetail>(keys.run(this.run), (known) => known && afterEvents(known, events));
    this.cache.setQueryData<readonly CommandRecord[]>(
      keys.commands(this.run),
      (known) => known && withCommands(known, events),
    );
    const lines = events.filter((event) => LOGGED.includes(event.type));
    if (lines.length > 0) this.log.set([...this.log.get(), ...lines].slice(-LOG_LENGTH));
    const fresh = staleAfter(events);
    if (this.stale.size === 0 && fresh.size > 0) this.later(() => this.refreshStale(), REFRESH);
    for (const what of fresh) this.stale.add(what);
  }

  private refreshStale(): void {
    const stale = [...this.stale];
    this.stale.clear();
    for (const what of stale) void this.refresh(what);
  }

  private refreshRegularly(): void {
    this.later(() => {
      if (this.link.get().state === "connected" && !document.hidden) void this.refresh("run");
      this.refreshRegularly();
    }, REFRESH_ANYWAY);
  }

  /** Asks again; what the stream told since the answer was made is put on top of it. */
  private async refresh(what: Stale): Promise<void> {
    try {
      if (what === "versions")
        this.cache.setQueryData(keys.versions(this.run), await this.api.versions(this.run));
      else if (what === "followers") {
        this.cache.setQueryData(keys.followers(this.run), await this.api.followers(this.run));
      } else {
        const detail = await this.api.run(this.run);
        this.cache.setQueryData(keys.run(this.run), afterEvents(detail, this.recent));
      }
    } catch {
      // The server is away: the link says so, and the snapshot is refreshed once it is back.
    }
  }

  private later(act: () => void, milliseconds: number): void {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      act();
    }, milliseconds);
    this.timers.add(timer);
  }
}
