import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Probe } from "../api/client";
import type { Event } from "../api/types";
import { EventStream, type Socket } from "./stream";

const event = (seq: number) =>
  ({ seq, run: "r", type: "log", time: 0, branch: "main", level: "info" }) as Event;

class FakeSocket {
  onopen: (() => void) | null = null;
  onmessage: ((message: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  closed = false;

  constructor(readonly since: number) {}

  close() {
    this.closed = true;
  }
}

class FakeServer {
  sockets: FakeSocket[] = [];
  received: number[] = [];
  gaps = 0;
  answer: Probe = "alive";

  stream(last = 0) {
    return new EventStream(
      {
        open: (since) => {
          const socket = new FakeSocket(since);
          this.sockets.push(socket);
          return socket as unknown as Socket;
        },
        probe: async () => this.answer,
        onEvents: (events) => this.received.push(...events.map(({ seq }) => seq ?? 0)),
        onGap: () => {
          this.gaps += 1;
        },
        silence: 10_000,
      },
      last,
    );
  }

  get socket() {
    const newest = this.sockets.at(-1);
    if (!newest) throw new Error("nobody has connected");
    return newest;
  }

  welcome(last: number, { store = "s", first = 1 } = {}) {
    this.socket.onopen?.();
    this.say({ type: "welcome", store, first, last });
  }

  events(...seqs: number[]) {
    this.say({ type: "events", last: Math.max(...seqs), events: seqs.map(event) });
  }

  say(message: unknown) {
    this.socket.onmessage?.({ data: JSON.stringify(message) });
  }

  hangUp(code = 1006) {
    this.socket.onclose?.({ code, reason: "" });
  }
}

let server: FakeServer;

beforeEach(() => {
  vi.useFakeTimers();
  server = new FakeServer();
});
afterEach(() => {
  vi.useRealTimers();
});

describe("the stream of events", () => {
  it("says that it replays until it has caught up", () => {
    const stream = server.stream(3);
    stream.start();
    expect(server.socket.since).toBe(3);
    server.welcome(6);
    expect(stream.link.get()).toEqual({ state: "replaying", behind: 3 });
    server.events(4, 5);
    expect(stream.link.get()).toEqual({ state: "replaying", behind: 1 });
    server.events(6);
    expect(stream.link.get()).toEqual({ state: "connected" });
    expect(server.received).toEqual([4, 5, 6]);
  });

  it("goes on after a lost connection where it was, and takes nothing twice", async () => {
    const stream = server.stream();
    stream.start();
    server.welcome(2);
    server.events(1, 2);
    server.hangUp();
    expect(stream.link.get().state).toBe("reconnecting");
    await vi.advanceTimersByTimeAsync(600);
    expect(server.socket.since).toBe(2);
    server.welcome(4);
    server.events(2, 3, 4);
    expect(server.received).toEqual([1, 2, 3, 4]);
    expect(stream.link.get().state).toBe("connected");
    expect(server.gaps).toBe(0);
  });

  it("waits longer after each failure and starts anew after a success", async () => {
    const stream = server.stream();
    stream.start();
    for (const attempt of [1, 2, 3]) {
      server.hangUp();
      expect(stream.link.get()).toMatchObject({ state: "reconnecting", attempt });
      await vi.advanceTimersByTimeAsync(15_000);
    }
    server.welcome(0);
    server.hangUp();
    expect(stream.link.get()).toMatchObject({ attempt: 1 });
  });

  it("can be told to try again at once", () => {
    const stream = server.stream();
    stream.start();
    server.hangUp();
    stream.retryNow();
    expect(server.sockets).toHaveLength(2);
  });

  it.each([
    ["another store answers", { store: "other" }, 9],
    ["the server knows less than we do", {}, 1],
    ["what we missed is gone", { first: 8 }, 9],
  ])("asks for everything anew when %s", async (_, welcome, last) => {
    const stream = server.stream();
    stream.start();
    server.welcome(5);
    server.events(5);
    server.hangUp();
    await vi.advanceTimersByTimeAsync(600);
    server.welcome(last, welcome);
    expect(server.gaps).toBe(1);
    expect(stream.last).toBe(last);
  });

  it("does not knock again with a token that is refused", async () => {
    const stream = server.stream();
    stream.start();
    server.answer = "refused";
    server.hangUp();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(stream.link.get()).toEqual({ state: "refused" });
    expect(server.sockets).toHaveLength(1);
  });

  it("is connected though the last of what was missed is not for us", async () => {
    const stream = server.stream(3);
    stream.start();
    server.welcome(9);
    expect(stream.link.get().state).toBe("replaying");
    await vi.advanceTimersByTimeAsync(1500);
    expect(stream.link.get().state).toBe("connected");
  });

  it("asks a silent server whether it lives, and reconnects when it does not", async () => {
    const stream = server.stream();
    stream.start();
    server.welcome(0);
    await vi.advanceTimersByTimeAsync(10_001);
    expect(stream.link.get().state).toBe("connected");
    server.answer = "away";
    const silent = server.socket;
    await vi.advanceTimersByTimeAsync(10_001);
    expect(stream.link.get().state).toBe("reconnecting");
    expect(silent.closed).toBe(true);
  });

  it("opens nothing more once it is stopped", async () => {
    const stream = server.stream();
    stream.start();
    server.hangUp();
    stream.stop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(server.sockets).toHaveLength(1);
  });
});
