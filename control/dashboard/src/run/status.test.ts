import { expect, it } from "vitest";
import { statusWords, stepsPerSecond } from "./status";

it("says what to do wherever training does not go on", () => {
  for (const status of ["starting", "paused", "stopped", "finished", "crashed", "disconnected"] as const) {
    expect(statusWords({ status, step: 7 }).advice).toBeTruthy();
  }
  expect(statusWords({ status: "running", step: 7 }).advice).toBeUndefined();
});

it("calls a trainer away only where there was one", () => {
  expect(statusWords({ status: "disconnected", step: 7 })).toMatchObject({
    word: "trainer away",
    tone: "bad",
  });
  expect(statusWords({ status: "disconnected", step: null })).toMatchObject({
    word: "no trainer yet",
    tone: "calm",
  });
});

it("takes the speed from the newest steps only", () => {
  expect(stepsPerSecond([10, 10, 0.5, 0.5], 2)).toBe(2);
  expect(stepsPerSecond([])).toBeUndefined();
});
