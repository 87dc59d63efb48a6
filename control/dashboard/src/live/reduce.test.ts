import { describe, expect, it } from "vitest";
import type { CommandRecord, Event, RunDetail } from "../api/types";
import { afterEvents, staleAfter, withCommands } from "./reduce";

const run = {
  run: "r",
  seq: 10,
  status: "running",
  branch: "main",
  step: 5,
  last_event_at: 1,
  reason: "",
} as RunDetail;
const event = (seq: number, type: Event["type"], body: Record<string, unknown>, step?: number) =>
  ({
    seq,
    type,
    body,
    run: "r",
    branch: "main",
    time: seq,
    ...(step === undefined ? {} : { step }),
  }) as Event;
const command = (uuid: string, received_at: number, status = "requested") =>
  ({ uuid, received_at, status, command: "pause_training" }) as CommandRecord;

describe("a run after events", () => {
  it("takes over step and values, and keeps those that were not told again", () => {
    const next = afterEvents(run, [
      event(11, "metrics", { loss: 2, lr: 1e-4 }, 6),
      event(12, "metrics", { loss: 1 }, 7),
    ]);
    expect(next.step).toBe(7);
    expect(next.seq).toBe(12);
    expect(next.metrics?.values).toEqual({ loss: 1, lr: 1e-4 });
  });

  it("leaves out what its snapshot already holds", () => {
    expect(afterEvents(run, [event(10, "run", { status: "paused" })])).toBe(run);
  });

  it("tells what it does from what is wanted of it", () => {
    expect(afterEvents(run, [event(11, "run", { desired: "paused" })])).toMatchObject({
      status: "running",
      desired: "paused",
    });
    expect(
      afterEvents(run, [event(11, "run", { status: "crashed", reason: "out of memory" })]),
    ).toMatchObject({
      status: "crashed",
      reason: "out of memory",
    });
  });
});

describe("what events make stale", () => {
  it("is the run once a command is through, and not before", () => {
    expect([...staleAfter([event(1, "command", { uuid: "a", status: "running" })])]).toEqual([]);
    expect([...staleAfter([event(1, "command", { uuid: "a", outcome: "success" })])]).toEqual(["run"]);
  });

  it("is nothing for numbers", () => {
    expect(staleAfter([event(1, "metrics", { loss: 1 })]).size).toBe(0);
  });
});

describe("the list of commands", () => {
  it("brings a known command up to date in its place, and puts a new one first", () => {
    const known = [command("b", 2), command("a", 1)];
    const next = withCommands(known, [
      event(1, "command", { ...command("a", 1, "success") }),
      event(2, "command", { ...command("c", 3) }),
    ]);
    expect(next.map(({ uuid, status }) => [uuid, status])).toEqual([
      ["c", "requested"],
      ["b", "requested"],
      ["a", "success"],
    ]);
  });

  it("is the same list when nothing was told", () => {
    const known = [command("a", 1)];
    expect(withCommands(known, [event(1, "log", { message: "hello" })])).toBe(known);
  });
});
