import { expect, it } from "vitest";
import type { Event } from "../api/types";
import { describe as line } from "./describe";

const event = (type: Event["type"], body: Record<string, unknown>) =>
  ({ type, body, run: "r", branch: "calmer", seq: 1, time: 0, level: "info" }) as Event;

it.each([
  ["run", { status: "crashed", reason: "out of memory" }, "crashed: out of memory"],
  ["run", { desired: "paused", author: "ada" }, "wanted: paused, by ada"],
  ["branch", { reason: "load", forked_at: 120 }, "calmer: new branch from step 120"],
  ["checkpoint", { uuid: "c" }, "checkpoint saved"],
  ["checkpoint", { uuid: "c", reason: "policy" }, "checkpoint saved: on schedule"],
  ["checkpoint", { uuid: "c", reason: "new data" }, "checkpoint saved: new data"],
  ["version", { version: 3, action: "sampled" }, "v3: its samples are painted"],
  ["version", { version: 3, action: "rolled_back", channel: "stable" }, "v3 rolled back · stable"],
  ["actor", { kind: "trainer", actor: "t0", action: "gone", reason: "closed" }, "trainer t0 gone: closed"],
  ["evaluation", { loss: 0.5, note: "x" }, "evaluation: loss 0.5"],
  ["health", { check: "nan", message: "the loss is not finite" }, "the loss is not finite"],
  ["log", { message: "hello" }, "hello"],
  ["log", { odd: 1 }, '{"odd":1}'],
] as const)("%s %j reads %s", (type, body, words) => {
  expect(line(event(type, body))).toBe(words);
});
