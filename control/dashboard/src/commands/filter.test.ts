import { describe, expect, it } from "vitest";
import type { CommandRecord } from "../api/types";
import { matches } from "./filter";

const command = {
  command: "update_optimizer",
  arguments: { lr: { value: 1e-5 } },
  author: "ada",
  note: "loss spikes",
  reason: "",
  status: "failed",
  outcome: "rejected",
  branch: "main",
} as unknown as CommandRecord;

describe("the filter of the command log", () => {
  it("wants every word, anywhere and in any case", () => {
    expect(matches(command, "ADA spikes", "all")).toBe(true);
    expect(matches(command, "ada calm", "all")).toBe(false);
    expect(matches(command, "1e-5", "all")).toBe(true);
  });

  it("tells open ones from those that came to nothing", () => {
    expect(matches(command, "", "failed")).toBe(true);
    expect(matches(command, "", "open")).toBe(false);
    expect(matches({ ...command, outcome: null }, "", "open")).toBe(true);
    expect(matches({ ...command, outcome: "success" }, "", "failed")).toBe(false);
  });
});
