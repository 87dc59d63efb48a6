import type { MixtureSource } from "../api/types";

export interface Figure {
  label: string;
  value: number;
  unit: "" | "s";
}

const KNOWN: readonly { key: string; label: string; unit: "" | "s" }[] = [
  { key: "samples_per_second", label: "samples/s", unit: "" },
  { key: "age_seconds", label: "age", unit: "s" },
  { key: "lag_seconds", label: "lag", unit: "s" },
  { key: "lag", label: "waiting", unit: "" },
  { key: "repeats", label: "repeats", unit: "" },
  { key: "skipped", label: "skipped", unit: "" },
  { key: "samples", label: "samples", unit: "" },
];

/** What a source reports beside its shares, in a fixed order; what it does not report is left out. */
export function figuresOf(source: MixtureSource): Figure[] {
  const told: Readonly<Record<string, unknown>> = source;
  return KNOWN.flatMap(({ key, label, unit }) => {
    const value = told[key];
    if (typeof value !== "number" || value < 0) return [];
    return [{ label, value: Math.round(value * 10) / 10, unit }];
  });
}
