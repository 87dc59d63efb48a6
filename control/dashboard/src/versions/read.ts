import type { ChannelInfo, FollowerInfo, VersionInfo } from "../api/types";
import { duration } from "../ui/numbers";

/** A heartbeat older than this many seconds is missing. */
const SILENT = 10;

export interface FollowerWords {
  tone: "good" | "warn" | "bad";
  word: string;
  /** How far it lags, in versions and time; empty where it serves what its channel names. */
  lag: string;
}

export function followerWords(
  { version, channel, time, error, lag_seconds }: FollowerInfo,
  channels: readonly ChannelInfo[],
  now: number,
): FollowerWords {
  const named = channels.find((pointer) => pointer.channel === channel)?.version;
  const current = named === undefined || version === named;
  const apart = named === undefined ? 0 : Math.abs(named - (version ?? 0));
  const since = lag_seconds ? `, for ${duration(lag_seconds)}` : "";
  const lag = current ? "" : `${apart} ${apart === 1 ? "version" : "versions"} from v${named}${since}`;
  if (error) return { tone: "bad", word: "failing", lag };
  if (now - time > SILENT) return { tone: "warn", word: "silent", lag };
  return current ? { tone: "good", word: "current", lag } : { tone: "warn", word: "behind", lag };
}

/** The versions that a version comes from, its parent first; those that are not known (any more) end it. */
export function lineageOf(versions: readonly VersionInfo[], version: number): VersionInfo[] {
  const known = new Map(versions.map((info) => [info.version, info]));
  const found: VersionInfo[] = [];
  for (let at = known.get(version)?.parent; at != null; ) {
    const info = known.get(at);
    if (!info || found.includes(info)) break;
    found.push(info);
    at = info.parent;
  }
  return found;
}

export interface Figure {
  name: string;
  value: number;
  /** The change from the parent's, where that was measured too. */
  change: number | undefined;
}

/** What was measured of a version, beside the same of the version that it comes from. */
export function figuresOf(version: VersionInfo, parent: VersionInfo | undefined): Figure[] {
  return Object.entries(version.evaluation ?? {})
    .filter(([name]) => !/(_runtime|_per_second|epoch)$/.test(name))
    .map(([name, value]) => {
      const before = parent?.evaluation?.[name];
      return { name, value, change: before === undefined ? undefined : value - before };
    });
}
