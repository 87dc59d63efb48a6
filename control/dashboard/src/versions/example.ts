import type { SampleInfo, VersionInfo } from "../api/types";

/** A version as the server tells of it, for tests. */
export const exampleVersion = (
  number: number,
  parent: number | null,
  changes: Partial<VersionInfo> = {},
): VersionInfo => ({
  run: "r",
  version: number,
  branch: "main",
  segment: "s",
  step: number * 10,
  time: 0,
  action: "published",
  reason: "",
  channels: [],
  parent,
  evaluation: {},
  samples: [],
  ...changes,
});

/** A picture of a version. */
export const exampleSample = (label: string, of: number): SampleInfo => ({
  label,
  width: 8,
  height: 4,
  bytes: 90,
  sha256: `${label}-${of}`,
});
