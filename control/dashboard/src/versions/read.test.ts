import { describe, expect, it } from "vitest";
import type { ChannelInfo, FollowerInfo } from "../api/types";
import { exampleVersion } from "./example";
import { figuresOf, followerWords, lineageOf } from "./read";

const channels: ChannelInfo[] = [{ run: "r", channel: "stable", version: 5, time: 0, held: false }];
const follower = (changes: Partial<FollowerInfo>): FollowerInfo => ({
  run: "r",
  follower: "app",
  version: 5,
  channel: "stable",
  time: 100,
  error: "",
  ...changes,
});
const version = (number: number, parent: number | null, evaluation = {}) =>
  exampleVersion(number, parent, { evaluation });

describe("versions", () => {
  it("says how far a server lags", () => {
    expect(followerWords(follower({}), channels, 101)).toEqual({ tone: "good", word: "current", lag: "" });
    expect(followerWords(follower({ version: 3, lag_seconds: 4 }), channels, 101)).toEqual({
      tone: "warn",
      word: "behind",
      lag: "2 versions from v5, for 4 s",
    });
    expect(followerWords(follower({ version: null }), channels, 101).lag).toBe("5 versions from v5");
    expect(followerWords(follower({}), channels, 130).word).toBe("silent");
    expect(followerWords(follower({ error: "no hub" }), channels, 101).word).toBe("failing");
  });

  it("goes back along the parents, as far as they are known", () => {
    const versions = [version(4, 2), version(3, 1), version(2, 1), version(1, null)];
    expect(lineageOf(versions, 4).map((info) => info.version)).toEqual([2, 1]);
    expect(lineageOf(versions, 9)).toEqual([]);
    expect(lineageOf([version(2, 2)], 2).map((info) => info.version)).toEqual([2]);
  });

  it("sets figures beside those of the version before", () => {
    const before = version(1, null, { eval_loss: 0.5 });
    const after = version(2, 1, { eval_loss: 0.4, eval_runtime: 2, score: 1 });
    expect(figuresOf(after, before)).toEqual([
      { name: "eval_loss", value: 0.4, change: expect.closeTo(-0.1, 9) },
      { name: "score", value: 1, change: undefined },
    ]);
  });
});
