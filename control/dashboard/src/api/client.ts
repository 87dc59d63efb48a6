import createClient from "openapi-fetch";
import type { paths } from "./schema";
import type {
  ChannelInfo,
  CommandRecord,
  Comparison,
  Event,
  FollowerInfo,
  ModelTree,
  RunDetail,
  RunSummary,
  SeriesPage,
  VersionInfo,
  WayInfo,
} from "./types";

/** The server refused, or nobody answered (`status` 0). The message is for people. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }

  /** Whether the token is what was refused. */
  get unauthorised(): boolean {
    return this.status === 401 || this.status === 403;
  }
}

export type Probe = "alive" | "refused" | "away";

export interface NewCommand {
  command: string;
  arguments: Record<string, unknown>;
  note?: string;
  /** Checked by the one who would carry it out, and not carried out. */
  dryRun?: boolean;
}

export interface Versions {
  versions: readonly VersionInfo[];
  channels: readonly ChannelInfo[];
}

const POINTS = 2000;
const COMPARED_POINTS = 1000;
const PAGE = 200;
const PROBE_PATIENCE = 4000;
const EVENTS_BACK = 20_000;
const EVENTS_PAGE = 500;
/** As the server has them in `control/server/access.py`: a page cannot set a header on a WebSocket. */
const SUBPROTOCOL = "stovetop";

/** Everything that the page asks of the server, over one typed client. */
export class Api {
  private readonly http;

  constructor(private readonly token: string) {
    this.http = createClient<paths>({
      baseUrl: new URL(".", document.baseURI).href.replace(/\/$/, ""),
      headers: { Authorization: `Bearer ${token}` },
    });
  }

  async runs(): Promise<readonly RunSummary[]> {
    return (await unwrap(this.http.GET("/api/v1/runs"))).runs;
  }

  run(run: string): Promise<RunDetail> {
    return unwrap(this.http.GET("/api/v1/runs/{run}", { params: { path: { run } } }));
  }

  /** The way of one click, as it stands now. */
  way(run: string): Promise<WayInfo> {
    return unwrap(this.http.GET("/api/v1/runs/{run}/way", { params: { path: { run } } }));
  }

  /** The layers of the model, as its trainer described them. */
  model(run: string): Promise<ModelTree> {
    return unwrap(this.http.GET("/api/v1/runs/{run}/model", { params: { path: { run } } }));
  }

  /** The history of every metric on every branch, thinned out by the server where it is long. */
  series(run: string): Promise<SeriesPage> {
    const params = { path: { run }, query: { points: POINTS } };
    return unwrap(this.http.GET("/api/v1/runs/{run}/metrics/series", { params }));
  }

  /** The same of several runs, each branch from the beginning of what it was forked from. */
  compare(runs: readonly string[]): Promise<Comparison> {
    const query = { run: [...runs], points: COMPARED_POINTS, lineage: true };
    return unwrap(this.http.GET("/api/v1/metrics/series", { params: { query } }));
  }

  async commands(run: string): Promise<readonly CommandRecord[]> {
    const query = { run, limit: PAGE };
    return (await unwrap(this.http.GET("/api/v1/commands", { params: { query } }))).commands;
  }

  /** The newest events of these types, oldest first. `now` is the newest number that is known. */
  async newestEvents(run: string, types: Event["type"][], now: number): Promise<readonly Event[]> {
    let since = Math.max(0, now - EVENTS_BACK);
    let found: Event[] = [];
    for (let more = true; more; ) {
      const query = { run, type: types, since, limit: EVENTS_PAGE };
      const page = await unwrap(this.http.GET("/api/v1/events", { params: { query } }));
      found = [...found, ...page.events].slice(-EVENTS_PAGE);
      since = page.last;
      more = page.more;
    }
    return found;
  }

  versions(run: string): Promise<Versions> {
    return unwrap(this.http.GET("/api/v1/versions", { params: { query: { run } } }));
  }

  /** One picture of what a version paints. */
  async sample(sha256: string): Promise<Blob> {
    const params = { path: { sha256 } };
    return unwrap(this.http.GET("/api/v1/samples/{sha256}", { params, parseAs: "blob" }));
  }

  async followers(run: string): Promise<readonly FollowerInfo[]> {
    return (await unwrap(this.http.GET("/api/v1/followers", { params: { query: { run } } }))).followers;
  }

  /** Sends a command. The identity is made here, so that a resend after a lost answer is harmless. */
  send(run: string, { command, arguments: args, note, dryRun }: NewCommand): Promise<CommandRecord> {
    const body = {
      run,
      command,
      arguments: args,
      note: note ?? "",
      uuid: newUuid(),
      dry_run: dryRun ?? false,
    };
    return unwrap(this.http.POST("/api/v1/commands", { body }));
  }

  /** Whether the server answers, and whether it still takes the token. */
  async probe(): Promise<Probe> {
    try {
      const { response } = await this.http.GET("/api/v1/runs", {
        signal: AbortSignal.timeout(PROBE_PATIENCE),
      });
      if (response.status === 401 || response.status === 403) return "refused";
      return response.ok ? "alive" : "away";
    } catch {
      return "away"; // any failure is the answer that was asked for
    }
  }

  /** Opens the stream of a run's events after number `since`. */
  watch(run: string, since: number): WebSocket {
    const address = new URL("api/v1/events", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    address.search = new URLSearchParams({ run, since: String(since) }).toString();
    return new WebSocket(address, [SUBPROTOCOL, `${SUBPROTOCOL}.token.${this.token}`]);
  }
}

/** 128 random bits in hexadecimal. `crypto.randomUUID` is missing where the page is not served over HTTPS or loopback. */
function newUuid(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}

interface Answer<Data> {
  data?: Data;
  error?: unknown;
  response: Response;
}

async function unwrap<Data>(request: Promise<Answer<Data>>): Promise<NonNullable<Data>> {
  let answer: Answer<Data>;
  try {
    answer = await request;
  } catch {
    throw new ApiError(0, "The control server does not answer.");
  }
  if (answer.data != null && answer.response.ok) return answer.data;
  throw new ApiError(
    answer.response.status,
    problemOf(answer.error) ?? `The server answered ${answer.response.status}.`,
  );
}

function problemOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const { detail, title } = error as { detail?: unknown; title?: unknown };
  if (typeof detail === "string") return detail;
  return typeof title === "string" ? title : undefined;
}
