import { expect, it } from "vitest";
import { retryDelay } from "./backoff";

it("waits longer each time, up to a quarter of a minute", () => {
  const longest = [1, 2, 3, 4, 5, 6, 20].map((attempt) => retryDelay(attempt, () => 1));
  expect(longest).toEqual([500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
});

it("spreads the attempts, never below sixty percent", () => {
  expect(retryDelay(1, () => 0)).toBe(300);
  expect(retryDelay(20, () => 0)).toBe(9000);
});
