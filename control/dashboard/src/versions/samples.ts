import type { SampleInfo, VersionInfo } from "../api/types";
import { lineageOf } from "./read";

/** Pictures of a version beside those of an earlier one, paired by what they show. */
export interface Beside {
  readonly version: number;
  /** The version that it is held against; undefined where none has pictures. */
  readonly before: number | undefined;
  readonly pairs: readonly { readonly now: SampleInfo; readonly before: SampleInfo | undefined }[];
}

/**
 * A version's pictures beside those of the version that it comes from; where that has none, of the nearest one that has.
 * Undefined for a version without pictures.
 */
export function besideTheLast(versions: readonly VersionInfo[], number: number): Beside | undefined {
  const version = versions.find((info) => info.version === number);
  const shown = version?.samples ?? [];
  if (shown.length === 0) return undefined;
  const earlier = versions
    .filter((info) => info.version < number)
    .sort((one, other) => other.version - one.version);
  const last = [...lineageOf(versions, number), ...earlier].find(({ samples }) => samples.length);
  return {
    version: number,
    before: last?.version,
    pairs: shown.map((now) => ({ now, before: last?.samples?.find(({ label }) => label === now.label) })),
  };
}

/** The newest version that has pictures. */
export function newestPainted(versions: readonly VersionInfo[]): number | undefined {
  const painted = versions.filter(({ samples }) => samples.length).map(({ version }) => version);
  return painted.length > 0 ? Math.max(...painted) : undefined;
}
