import type { Probe } from "../api/client";
import type { Event, WatchEvents, WatchWelcome } from "../api/types";
import { retryDelay } from "./backoff";
import { Observable } from "./observable";

/** How the page stands to the server's stream of events. */
export type Link =
  | { state: "connecting" }
  /** The socket is open and what was missed comes in; `behind` events are still to come. */
  | { state: "replaying"; behind: number }
  | { state: "connected" }
  /** Nothing was heard for a while and the server has not yet answered whether it lives. */
  | { state: "stale"; since: number }
  | { state: "reconnecting"; attempt: number; retryAt: number; reason: string }
  /** The token is not accepted (any more): no use trying again with it. */
  | { state: "refused" }
  | { state: "closed" };

/** What the stream needs of a WebSocket; tests bring their own. */
export type Socket = Pick<WebSocket, "onopen" | "onmessage" | "onclose" | "close">;

export interface StreamOptions {
  open: (since: number) => Socket;
  /** Whether the server answers and takes the token: asked when the stream is silent or cannot be opened. */
  probe: () => Promise<Probe>;
  onEvents: (events: Event[]) => void;
  /** What is known here does not go on into the stream (another store, or a gap): load everything anew. */
  onGap: () => void;
  silence?: number;
}

const SILENCE = 12_000;
/** A filter may leave out the last of what was missed; after this much quiet the replay is over all the same. */
const REPLAY_QUIET = 1500;

/** Follows the server's events by sequence number: each is handed on once and in order, over any number of sockets. */
export class EventStream {
  readonly link = new Observable<Link>({ state: "connecting" });
  private socket: Socket | undefined;
  private store: string | undefined;
  private attempt = 0;
  private goal = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private quiet: ReturnType<typeof setTimeout> | undefined;
  private replayed: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly options: StreamOptions,
    /** The newest event that is known here. */
    public last: number,
  ) {}

  start(): void {
    this.connect();
  }

  stop(): void {
    this.drop();
    this.link.set({ state: "closed" });
  }

  /** Tries again now rather than when the wait is over. */
  retryNow(): void {
    if (this.link.get().state === "reconnecting") this.connect();
  }

  private connect(): void {
    this.drop();
    if (this.attempt === 0) this.link.set({ state: "connecting" });
    const socket = this.options.open(this.last);
    this.socket = socket;
    socket.onopen = () => this.listen();
    socket.onmessage = ({ data }) => this.receive(data);
    socket.onclose = ({ reason }) => void this.lost(reason || "the connection was lost");
  }

  private drop(): void {
    clearTimeout(this.retry);
    clearTimeout(this.quiet);
    clearTimeout(this.replayed);
    if (!this.socket) return;
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    this.socket = undefined;
  }

  private receive(data: unknown): void {
    const message = parse(data);
    if (!message) return;
    this.listen();
    this.attempt = 0;
    if (message.type === "welcome") this.greet(message);
    else this.take(message);
  }

  private greet(welcome: WatchWelcome): void {
    const other = this.store !== undefined && welcome.store !== this.store;
    this.store = welcome.store;
    this.goal = welcome.last;
    if (other || welcome.last < this.last || welcome.first > this.last + 1) {
      this.last = welcome.last;
      this.options.onGap();
    }
    this.settle();
  }

  private take(batch: WatchEvents): void {
    const fresh = batch.events.filter((event) => (event.seq ?? 0) > this.last);
    this.last = Math.max(this.last, batch.last);
    if (fresh.length > 0) this.options.onEvents(fresh);
    this.settle();
  }

  private settle(): void {
    clearTimeout(this.replayed);
    const behind = this.goal - this.last;
    const link = this.link.get();
    if (behind > 0) {
      this.link.set({ state: "replaying", behind });
      this.replayed = setTimeout(() => this.link.set({ state: "connected" }), REPLAY_QUIET);
    } else if (link.state !== "connected") this.link.set({ state: "connected" });
  }

  /** Restarts the wait for silence: a socket can be dead for minutes before the browser says so. */
  private listen(): void {
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => void this.check(), this.options.silence ?? SILENCE);
  }

  private async check(): Promise<void> {
    const socket = this.socket;
    this.link.set({ state: "stale", since: Date.now() });
    const answer = await this.options.probe();
    if (socket !== this.socket || this.link.get().state !== "stale") return;
    if (answer !== "alive") {
      void this.lost("the server does not answer");
      return;
    }
    this.link.set({ state: "connected" });
    this.listen();
  }

  /** A browser does not say why a socket was refused; only a request over HTTP tells a bad token from a server away. */
  private async lost(reason: string): Promise<void> {
    this.drop();
    this.attempt += 1;
    const wait = retryDelay(this.attempt);
    this.link.set({ state: "reconnecting", attempt: this.attempt, retryAt: Date.now() + wait, reason });
    this.retry = setTimeout(() => this.connect(), wait);
    const attempt = this.attempt;
    if ((await this.options.probe()) !== "refused" || attempt !== this.attempt || this.socket) return;
    this.drop();
    this.link.set({ state: "refused" });
  }
}

function parse(data: unknown): WatchWelcome | WatchEvents | undefined {
  if (typeof data !== "string") return undefined;
  const message = JSON.parse(data) as { type?: unknown };
  return message.type === "welcome" || message.type === "events"
    ? (message as WatchWelcome | WatchEvents)
    : undefined;
}
