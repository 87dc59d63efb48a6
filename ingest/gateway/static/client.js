// @ts-check
/**
 * Posts one session of a user to Stovetop's gateway, from a browser (or Node 20 and later), without any dependency.
 *
 *     import { SessionClient } from "https://gateway.example/v1/client.js";
 *
 *     const session = new SessionClient({ url: "https://gateway.example", token, sessionId });
 *     session.post({ x: 31, y: 7, is_left_click: true }, { members: { png: blob } });
 *     await session.end();
 *
 * `post` only buffers; steps are sent in batches over HTTP, or one by one over a WebSocket, and are kept until the
 * gateway says that they are durable. After a lost connection it is asked where to go on. When the page is hidden, what
 * is buffered is sent at once; when it is closed, as much as a browser lets go in a last request (60 KiB).
 *
 * A page should not have the app's key: let your server open the session and hand the page its `session_id` and
 * `append_token`. A step that the gateway takes with a fault (see its session schema) is told to `onRejected`.
 */

/**
 * @typedef {object} Options
 * @property {string} url The gateway's address.
 * @property {string | (() => string | Promise<string>)} token The session's token, or a function that fetches one; it
 *   is called again when the one before has ended.
 * @property {string} [app] The app's name, to open the session; left out where the session is open already.
 * @property {Record<string, unknown>} [metadata] What is true of the whole session.
 * @property {Record<string, unknown>} [consent] What the user agreed to: version, granted_at, purposes.
 * @property {string} [sessionId] The session's id; one of its own if it is left out.
 * @property {"http" | "websocket"} [transport] How steps travel. Where no WebSocket gets through, HTTP is used.
 * @property {number} [batchSteps] Steps in one request, at most.
 * @property {number} [batchBytes] Bytes in one request, about.
 * @property {number} [maxDelay] Milliseconds that a step waits for others to share its request.
 * @property {number} [bufferBytes] Bytes that may wait for the gateway; over it `post` throws.
 * @property {number} [firstPause] Milliseconds; pauses between retries double from the first to the longest, each
 *   shortened at random by up to a half.
 * @property {number} [longestPause]
 * @property {(seq: number, fault: Fault) => void} [onRejected] A step became a dead letter.
 * @property {(error: Error) => void} [onFailure] The session cannot go on.
 *
 * @typedef {{ reason: string, pointer: string, detail: string, schema?: string }} Fault
 * @typedef {Blob | ArrayBuffer | Uint8Array} Content
 *
 * @typedef {object} StepOptions
 * @property {Record<string, Content>} [members] Binary parts by extension, such as `png`.
 * @property {boolean} [isReset] The user starts over.
 * @property {boolean} [isEos] The session ends with this step.
 * @property {string} [modelVersion] The version of the weights that the user saw.
 * @property {number} [time] Unix seconds; now, if it is left out.
 * @property {Record<string, unknown>} [extra] Further fields of the step.
 *
 * @typedef {object} Step
 * @property {number} seq
 * @property {Uint8Array} text
 * @property {Map<string, Uint8Array>} members
 * @property {number} size
 * @property {number} at
 * @property {boolean} ready
 *
 * @typedef {{ type?: string, detail?: string, retryable?: boolean, expected_seq?: number }} ProblemBody
 * @typedef {{ next_seq: number, state?: string, results?: Record<string, any>, limits?: any }} Reply
 */

const BLOCK = 512;
const KEEPALIVE_BYTES = 60 * 1024;
const HANDSHAKES = 3;
const REQUEST_MS = 30_000;
const encoder = new TextEncoder();
const RESERVED = ["seq", "time", "inputs", "is_reset", "is_eos", "model_version"];
const EXTENSION = /^(?=.{1,32}$)[a-z0-9]+(?:[._-][a-z0-9]+)*$/;

/** The buffer is full: the gateway is slower than the app, or away. The step was not taken. */
export class BufferFull extends Error {}

/** The gateway would refuse a step of this size. */
export class StepTooLarge extends Error {}

/** The gateway said no, for good. `problem` is the slug of its problem type. */
export class Refused extends Error {
  /** @param {number} status @param {string} problem @param {string} detail */
  constructor(status, problem, detail) {
    super(`the gateway refused (${status} ${problem}): ${detail}`);
    this.status = status;
    this.problem = problem;
  }
}

/** The gateway forgot steps that it had acknowledged (its data were replaced). */
export class SessionLost extends Error {}

/** Something that may succeed later. */
class Retry extends Error {
  /** @param {string} message @param {number} [after] Milliseconds that the gateway asked for. */
  constructor(message, after) {
    super(message);
    this.after = after ?? 0;
  }
}

/** A session from the client's side. */
export class SessionClient {
  /** @type {Required<Omit<Options, "app" | "consent" | "onRejected" | "onFailure">> & Options} */
  #options;
  /** @type {Step[]} */
  #steps = [];
  #buffered = 0;
  #nextSeq = 0;
  #acked = 0;
  #urgentBefore = 0;
  #opened = false;
  #asking = false;
  #over = false;
  #ended = false;
  #closed = false;
  /** @type {number | null} */
  #last = null;
  /** @type {Error | null} */
  #failure = null;
  #failures = 0;
  #handshakes = 0;
  #maxStepBytes = 900_000;
  #maxBodyBytes = 8 << 20;
  /** @type {string | null} */
  #token = null;
  #tokenTried = false;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {Set<() => void>} */
  #watchers = new Set();
  #away = () => this.#pageHides();
  #back = () => this.#pageShows();
  #hidden = () => document.visibilityState === "hidden" && this.#hurry();

  /** @param {Options} options */
  constructor(options) {
    if (!/^https?:\/\//.test(options.url)) throw new TypeError(`url: ${options.url} must begin with http:// or https://`);
    if (!options.app && !options.sessionId) throw new TypeError("give an app to open a session, or the sessionId of one");
    this.#options = {
      metadata: {},
      sessionId: newSessionId(),
      transport: "http",
      batchSteps: 64,
      batchBytes: 1 << 20,
      maxDelay: 50,
      bufferBytes: 8 << 20,
      firstPause: 100,
      longestPause: 10_000,
      ...options,
      url: options.url.replace(/\/+$/, ""),
    };
    if (typeof window !== "undefined") {
      window.addEventListener("pagehide", this.#away);
      window.addEventListener("pageshow", this.#back);
      document.addEventListener("visibilitychange", this.#hidden);
    }
    void this.#run();
  }

  /** The session's id. */
  get sessionId() {
    return this.#options.sessionId;
  }

  /** Steps that were posted. */
  get nextSeq() {
    return this.#nextSeq;
  }

  /** The seq of the last step that is durable; -1 before the first. */
  get durableThrough() {
    return this.#acked - 1;
  }

  /** Resolves when the gateway has confirmed the session, with the seq to go on from; await it before `post` to resume. */
  async open() {
    await this.#until(() => this.#opened);
    return this.#nextSeq;
  }

  /**
   * Take a step; it is sent soon. Returns its seq.
   * @param {Record<string, unknown> | null} inputs @param {StepOptions} [options]
   */
  post(inputs, options = {}) {
    if (this.#failure) throw this.#failure;
    if (this.#last !== null || this.#closed) throw new Error("the session was ended; open a new one");
    const { members = {}, isReset, isEos, modelVersion, time, extra = {} } = options;
    const taken = Object.keys(extra).filter((name) => RESERVED.includes(name));
    if (taken.length) throw new TypeError(`extra: ${taken} are fields of every step; give them by their own option`);
    const seq = this.#nextSeq;
    const fields = {
      ...extra,
      seq,
      time: time ?? Date.now() / 1000,
      inputs,
      ...(isReset ? { is_reset: true } : {}),
      ...(isEos ? { is_eos: true } : {}),
      ...(modelVersion === undefined ? {} : { model_version: modelVersion }),
    };
    this.#take(seq, encoder.encode(JSON.stringify(fields)), members);
    if (isEos) {
      this.#last = this.#nextSeq;
      this.#hurry();
    }
    return seq;
  }

  /** Resolves when all that was posted so far is durable. */
  async flush() {
    const target = this.#nextSeq;
    this.#hurry();
    await this.#until(() => this.#acked >= target);
  }

  /** Send what was posted, then end the session; resolves when that is durable. */
  async end() {
    this.#last ??= this.#nextSeq;
    this.#hurry();
    await this.#until(() => this.#ended);
  }

  /** Send nothing more. What is not acknowledged is lost, unless a client with the same `sessionId` sends it. */
  close() {
    this.#closed = true;
    this.#stop();
  }

  // --- the buffer ------------------------------------------------------------------------------------------------

  /** @param {number} seq @param {Uint8Array} text @param {Record<string, Content>} contents */
  #take(seq, text, contents) {
    /** @type {Step} */
    const step = { seq, text, members: new Map(), size: tarSize(text.length), at: performance.now(), ready: true };
    let content = text.length;
    /** @type {[string, Blob][]} */
    const blobs = [];
    for (const [extension, value] of Object.entries(contents)) {
      if (extension === "json" || !EXTENSION.test(extension)) {
        throw new TypeError(`members: ${extension} must be a lower-case extension such as png, and not json`);
      }
      const length = value instanceof Blob ? value.size : value.byteLength;
      content += length;
      step.size += tarSize(length);
      if (value instanceof Blob) blobs.push([extension, value]);
      else step.members.set(extension, new Uint8Array(value instanceof ArrayBuffer ? value.slice(0) : value));
    }
    if (content > this.#maxStepBytes || step.size + 2 * BLOCK > this.#maxBodyBytes) {
      throw new StepTooLarge(`step ${seq} has ${content} bytes, but the gateway takes ${this.#maxStepBytes}`);
    }
    if (this.#steps.length && this.#buffered + step.size > this.#options.bufferBytes) {
      throw new BufferFull(`${this.#buffered} bytes wait for the gateway; it is slower than the app, or away`);
    }
    if (blobs.length) void this.#read(step, blobs);
    this.#steps.push(step);
    this.#buffered += step.size;
    this.#nextSeq += 1;
    this.#notify();
  }

  /** @param {Step} step @param {[string, Blob][]} blobs */
  async #read(step, blobs) {
    step.ready = false;
    try {
      for (const [extension, blob] of blobs) step.members.set(extension, new Uint8Array(await blob.arrayBuffer()));
    } catch (error) {
      this.#fail(new Error(`step ${step.seq}: a member cannot be read: ${error}`));
      return;
    }
    step.ready = true;
    this.#notify();
  }

  /** Steps that can be sent: in order, up to the first whose members are still being read. @param {number} from */
  #sendable(from) {
    const start = this.#steps.findIndex((step) => step.seq >= from);
    if (start < 0) return [];
    const unready = this.#steps.findIndex((step, place) => place >= start && !step.ready);
    return this.#steps.slice(start, unready < 0 ? undefined : unready);
  }

  /** The gateway has everything before `nextSeq`. @param {number} nextSeq @param {Record<string, any>} [results] */
  #settle(nextSeq, results = {}) {
    if (nextSeq < this.#acked) {
      throw new SessionLost(`${this.sessionId}: ${this.#acked} steps were acknowledged, ${nextSeq} are known`);
    }
    for (const [seq, result] of Object.entries(results)) {
      if (typeof result === "object" && Number(seq) >= this.#acked) this.#options.onRejected?.(Number(seq), result);
    }
    while (this.#steps.length && this.#steps[0].seq < nextSeq) {
      this.#buffered -= /** @type {Step} */ (this.#steps.shift()).size;
    }
    this.#acked = Math.min(nextSeq, this.#nextSeq);
    this.#failures = 0;
    this.#notify();
  }

  #hurry() {
    this.#urgentBefore = this.#nextSeq;
    this.#notify();
  }

  // --- the conversation ------------------------------------------------------------------------------------------

  async #run() {
    while (!this.#over) {
      try {
        if (this.#options.transport === "websocket" && this.#handshakes < HANDSHAKES) await this.#talkBySocket();
        else await this.#talkByHttp();
      } catch (error) {
        if (this.#over) return;
        if (!(error instanceof Retry)) {
          this.#fail(/** @type {Error} */ (error));
          return;
        }
        this.#asking = this.#opened;
        await this.#pause(error.after);
      }
    }
  }

  /** One request and its answer, or a wait for something to say. */
  async #talkByHttp() {
    if (!this.#opened || this.#asking) {
      this.#begin(await this.#introduce());
      return;
    }
    const batch = this.#batch(this.#options.batchBytes);
    if (batch) {
      const reply = await this.#ask("POST", "/steps", batch.headers, batch.body);
      this.#settle(reply.next_seq, reply.results);
    } else if (this.#last !== null && this.#acked === this.#last) {
      await this.#ask("POST", "/end", JSON_TYPE, JSON.stringify({ next_seq: this.#last }));
      this.#finish();
    } else {
      await this.#news(this.#wait());
    }
  }

  /** @returns {Promise<Reply>} */
  async #introduce() {
    if (this.#opened) return this.#ask("GET", "");
    if (!this.#options.app) {
      const limits = await this.#request("GET", "/v1/limits", {});
      return { ...(await this.#ask("GET", "")), limits };
    }
    const { app, metadata, consent, sessionId } = this.#options;
    const body = JSON.stringify({ app, session_id: sessionId, metadata, ...(consent ? { consent } : {}) });
    return this.#request("POST", "/v1/sessions", JSON_TYPE, body);
  }

  /** The session as the gateway knows it. @param {Reply} reply */
  #begin(reply) {
    if (reply.limits) {
      this.#maxStepBytes = reply.limits.max_step_bytes;
      this.#maxBodyBytes = reply.limits.max_body_bytes;
    }
    if (!this.#opened) {
      if (reply.next_seq && this.#nextSeq) {
        const detail = `it has ${reply.next_seq} steps already; to resume it, await open() before the first post()`;
        throw new Refused(409, "session-exists", detail);
      }
      this.#opened = true;
      this.#nextSeq = Math.max(this.#nextSeq, reply.next_seq);
      this.#acked = Math.min(reply.next_seq, this.#nextSeq);
    }
    this.#asking = false;
    this.#settle(reply.next_seq);
    if (reply.state !== "ended") return;
    if (this.#steps.length || this.#last === null) {
      throw new Refused(410, "session-closed", `it ended after ${reply.next_seq} steps`);
    }
    this.#finish();
  }

  #wait() {
    const first = this.#steps[0];
    return first ? Math.max(0, first.at + this.#options.maxDelay - performance.now()) : 60_000;
  }

  /** The next request's steps, if it is time for them. @param {number} room @param {boolean} [now] */
  #batch(room, now = false) {
    const { batchSteps } = this.#options;
    const first = this.#steps[0];
    if (!first?.ready) return null;
    const urgent = now || first.seq < this.#urgentBefore;
    const full = this.#steps.length >= batchSteps || this.#buffered >= this.#options.batchBytes;
    if (!urgent && !full && this.#wait() > 0) return null;
    /** @type {Step[]} */
    const steps = [];
    let size = 2 * BLOCK;
    for (const step of this.#sendable(first.seq)) {
      size += step.size;
      if (steps.length === batchSteps || size > Math.min(room, this.#maxBodyBytes)) break;
      steps.push(step);
    }
    if (!steps.length && !now) steps.push(first); // one alone always goes
    return steps.length ? asRequest(steps) : null;
  }

  /**
   * @param {string} method @param {string} rest @param {Record<string, string>} [headers] @param {BodyInit} [body]
   * @returns {Promise<Reply>}
   */
  #ask(method, rest, headers = {}, body) {
    return this.#request(method, `/v1/sessions/${encodeURIComponent(this.sessionId)}${rest}`, headers, body);
  }

  /**
   * @param {string} method @param {string} path @param {Record<string, string>} headers @param {BodyInit} [body]
   * @returns {Promise<Reply>}
   */
  async #request(method, path, headers, body) {
    const token = await this.#currentToken();
    let reply;
    try {
      reply = await fetch(this.#options.url + path, {
        method,
        headers: { ...headers, Authorization: `Bearer ${token}` },
        body: body ?? null,
        signal: AbortSignal.timeout(REQUEST_MS),
        credentials: "omit",
        cache: "no-store",
      });
    } catch (error) {
      throw new Retry(String(error));
    }
    if (reply.status === 408 || reply.status === 429 || reply.status >= 500) {
      throw new Retry(`${reply.status}`, Number(reply.headers.get("Retry-After") ?? 0) * 1000 || 0);
    }
    let content;
    try {
      content = await reply.json();
    } catch (error) {
      if (reply.ok) throw new Retry(`an answer that broke off: ${error}`);
      content = {};
    }
    if (!reply.ok) this.#refused(reply.status, content);
    this.#tokenTried = false;
    return content;
  }

  /** @param {number} status @param {ProblemBody} problem */
  #refused(status, problem) {
    const slug = (problem.type ?? "unknown").split(":").pop() ?? "unknown";
    if (status === 401 && this.#renew()) throw new Retry("the token has ended");
    if (slug === "sequence-gap" || (status === 404 && this.#acked)) {
      // Steps are kept until they are acknowledged, so the gateway can miss only acknowledged ones.
      throw new SessionLost(`${this.sessionId}: ${this.#acked} steps were acknowledged, but ${problem.detail}`);
    }
    throw new Refused(status, slug, problem.detail ?? "");
  }

  async #currentToken() {
    const { token } = this.#options;
    if (this.#token === null) {
      try {
        this.#token = typeof token === "function" ? await token() : token;
      } catch (error) {
        throw new Retry(`no token: ${error}`);
      }
    }
    return this.#token;
  }

  /** Whether another token is worth a try. */
  #renew() {
    if (typeof this.#options.token !== "function" || this.#tokenTried) return false;
    this.#token = null;
    this.#tokenTried = true;
    return true;
  }

  // --- by WebSocket ----------------------------------------------------------------------------------------------

  /** One connection, until it ends. */
  async #talkBySocket() {
    const token = await this.#currentToken();
    const { app, metadata, consent, url } = this.#options;
    const address = `${url.replace(/^http/, "ws")}/v1/sessions/${encodeURIComponent(this.sessionId)}/ws`;
    const socket = new WebSocket(address, ["ingest.v1", `ingest.token.${token}`]);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#handshakes += 1;
    let credit = 0;
    let wanted = false;
    let ending = false;
    let cursor = -1;
    /** @type {ProblemBody | null} */
    let told = null;

    const pump = () => {
      if (cursor < 0 || socket.readyState !== WebSocket.OPEN || this.#over) return;
      for (const step of this.#sendable(cursor)) {
        const frame = asFrame(step);
        if (frame.byteLength > credit) {
          if (!wanted) socket.send(JSON.stringify({ type: "want", bytes: frame.byteLength }));
          wanted = true;
          return;
        }
        socket.send(frame);
        credit -= frame.byteLength;
        cursor = step.seq + 1;
      }
      if (this.#last !== null && this.#acked === this.#last && !ending) {
        ending = true;
        socket.send(JSON.stringify({ type: "end", next_seq: this.#last }));
      }
    };

    /** @param {any} message */
    const obey = (message) => {
      switch (message.type) {
        case "welcome":
          this.#handshakes = 0;
          this.#tokenTried = false;
          this.#maxStepBytes = Math.min(this.#maxStepBytes, message.max_message_bytes);
          this.#begin(message);
          cursor = message.next_seq;
          credit = message.credit_bytes;
          break;
        case "ack":
          this.#settle(message.durable_through + 1, message.results);
          break;
        case "credit":
          credit += message.bytes;
          wanted = false;
          break;
        case "ended":
          this.#finish();
          break;
        case "nack":
          ending = false;
          if (message.problem.retryable) throw new Retry(message.problem.detail, 1000);
          if (!(message.problem.expected_seq >= this.#acked)) this.#refused(message.problem.status, message.problem);
          cursor = message.problem.expected_seq;
          break;
        case "error":
          told = message.problem;
          break;
      }
      pump();
    };

    await new Promise((resolve, reject) => {
      /** @param {() => void} act */
      const guarded = (act) => {
        try {
          act();
        } catch (error) {
          socket.close(1000);
          reject(error);
        }
      };
      const unwatch = this.#watch(() => guarded(pump));
      socket.onopen = () => {
        const open = app ? { open: { app, metadata, ...(consent ? { consent } : {}) } } : {};
        socket.send(JSON.stringify({ type: "hello", ...open }));
      };
      socket.onmessage = (event) => guarded(() => obey(JSON.parse(event.data)));
      socket.onclose = (event) => {
        unwatch();
        this.#socket = null;
        if (this.#over) return resolve(null);
        guarded(() => {
          const retried = event.code < 1002 || [1005, 1006, 1011, 1012, 1013].includes(event.code);
          if (retried) throw new Retry(`the connection ended (${event.code})`);
          if (event.code === 4401 && this.#renew()) throw new Retry("the token has ended");
          if (event.code === 4410 && cursor >= 0) throw new Retry("is it the end that we asked for?");
          const status = event.code >= 4400 ? event.code - 4000 : 400;
          this.#refused(status, told ?? { type: event.reason || "closed", detail: `closed with ${event.code}` });
        });
      };
    });
  }

  // --- the page --------------------------------------------------------------------------------------------------

  /** The page goes away, perhaps for good: one last request may outlive it. */
  #pageHides() {
    if (this.#over || !this.#opened || this.#token === null) return;
    const batch = this.#batch(KEEPALIVE_BYTES, true);
    if (!batch) return;
    fetch(`${this.#options.url}/v1/sessions/${encodeURIComponent(this.sessionId)}/steps`, {
      method: "POST",
      headers: { ...batch.headers, Authorization: `Bearer ${this.#token}` },
      body: batch.body,
      keepalive: true,
      credentials: "omit",
    }).catch(() => {}); // nobody is left to be told; whatever was not taken is still in the buffer, should the page return
  }

  #pageShows() {
    this.#asking = this.#opened;
    this.#notify();
  }

  // --- waiting ---------------------------------------------------------------------------------------------------

  /** @param {() => void} watcher @returns {() => void} */
  #watch(watcher) {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  #notify() {
    for (const watcher of [...this.#watchers]) watcher();
  }

  /** Wait for anything to change, or for some milliseconds. @param {number} milliseconds */
  #news(milliseconds) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        unwatch();
        resolve(null);
      };
      const timer = setTimeout(done, milliseconds);
      const unwatch = this.#watch(done);
    });
  }

  /** @param {() => boolean} condition */
  async #until(condition) {
    while (!condition()) {
      if (this.#failure) throw this.#failure;
      if (this.#closed) throw new Error("the client was closed");
      await this.#news(60_000);
    }
  }

  /** @param {number} asked */
  async #pause(asked) {
    const { firstPause, longestPause } = this.#options;
    const longest = Math.min(longestPause, firstPause * 2 ** Math.min(this.#failures, 20));
    this.#failures += 1;
    const pause = Math.max(longest * (0.5 + Math.random() / 2), asked * (1 + Math.random() / 4));
    const until = performance.now() + pause;
    while (!this.#over && performance.now() < until) await this.#news(until - performance.now());
  }

  #finish() {
    this.#ended = true;
    this.#stop();
  }

  /** @param {Error} error */
  #fail(error) {
    this.#failure = error;
    this.#stop();
    this.#options.onFailure?.(error);
  }

  #stop() {
    this.#over = true;
    this.#socket?.close(1000);
    if (typeof window !== "undefined") {
      window.removeEventListener("pagehide", this.#away);
      window.removeEventListener("pageshow", this.#back);
      document.removeEventListener("visibilitychange", this.#hidden);
    }
    this.#notify();
  }
}

// --- bytes -------------------------------------------------------------------------------------------------------

const JSON_TYPE = { "Content-Type": "application/json" };

/** An id that sorts by time and cannot be guessed: a UUIDv7 (RFC 9562) in 32 hexadecimal digits. */
export function newSessionId() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  let now = Date.now();
  for (let place = 5; place >= 0; place--) {
    random[place] = now % 256;
    now = Math.floor(now / 256);
  }
  random[6] = (random[6] & 0x0f) | 0x70;
  random[8] = (random[8] & 0x3f) | 0x80;
  return [...random].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {Step[]} steps @returns {{ headers: Record<string, string>, body: Blob }} */
function asRequest(steps) {
  /** @type {Uint8Array[]} */
  const parts = [];
  const withMembers = steps.some((step) => step.members.size);
  for (const step of steps) {
    const name = String(step.seq).padStart(6, "0");
    if (!withMembers) {
      parts.push(step.text, encoder.encode("\n"));
      continue;
    }
    parts.push(...tarMember(`${name}.json`, step.text));
    for (const [extension, content] of step.members) parts.push(...tarMember(`${name}.${extension}`, content));
  }
  if (withMembers) parts.push(new Uint8Array(2 * BLOCK));
  const type = withMembers ? "application/x-tar" : "application/x-ndjson";
  const body = new Blob(/** @type {BlobPart[]} */ (parts), { type });
  return { headers: { "Content-Type": type, "Ingest-First-Seq": String(steps[0].seq) }, body };
}

/** A step as one message of the WebSocket door. @param {Step} step */
function asFrame(step) {
  const members = [...step.members].map(([extension, content]) => ({ name: encoder.encode(extension), content }));
  const size = members.reduce((sum, { name, content }) => sum + 5 + name.length + content.length, 12 + step.text.length);
  const frame = new Uint8Array(size);
  const view = new DataView(frame.buffer);
  view.setBigUint64(0, BigInt(step.seq));
  view.setUint32(8, step.text.length);
  frame.set(step.text, 12);
  let place = 12 + step.text.length;
  for (const { name, content } of members) {
    frame[place] = name.length;
    frame.set(name, place + 1);
    view.setUint32(place + 1 + name.length, content.length);
    frame.set(content, place + 5 + name.length);
    place += 5 + name.length + content.length;
  }
  return frame;
}

/** Bytes that a member of `length` bytes takes in a tar. @param {number} length */
function tarSize(length) {
  return BLOCK + Math.ceil(length / BLOCK) * BLOCK;
}

/** @param {string} name @param {Uint8Array} content */
function tarMember(name, content) {
  const header = new Uint8Array(BLOCK);
  /** @param {string} text @param {number} place */
  const write = (text, place) => header.set(encoder.encode(text), place);
  write(name, 0);
  write("0000644\0", 100);
  write("0000000\0", 108);
  write("0000000\0", 116);
  write(`${content.length.toString(8).padStart(11, "0")}\0`, 124);
  write("00000000000\0", 136);
  write("        ", 148);
  write("0", 156);
  write("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return [header, content, new Uint8Array((BLOCK - (content.length % BLOCK)) % BLOCK)];
}
