import { expect, it } from "vitest";
import { statusWords, stepsPerSecond } from "./status";

it("says what to do wherever training does not go on", () => {
  for (const status of ["starting", "paused", "stopped", "finished", "crashed", "disconnected"] as const) {
    expect(statusWords({ status }).advice).toBeTruthy();
  }
  expect(statusWords({ status: "running" }).advice).toBeUndefined();
});

it("takes the speed from the newest steps only", () => {
  expect(stepsPerSecond([10, 10, 0.5, 0.5], 2)).toBe(2);
  expect(stepsPerSecond([])).toBeUndefined();
});
