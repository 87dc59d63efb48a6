import type { MixtureSource } from "../api/types";

export interface Figure {
  label: string;
  value: number;
  unit: "" | "s";
}

const KNOWN: readonly { key: string; label: string; unit: "" | "s" }[] = [
  { key: "samples_per_second", label: "samples/s", unit: "" },
  { key: "lag_seconds", label: "age", unit: "s" },
  { key: "lag", label: "waiting", unit: "" },
  { key: "repeats", label: "repeats", unit: "" },
  { key: "jumped", label: "jumped", unit: "" },
  { key: "skipped", label: "skipped", unit: "" },
  { key: "shortfall", label: "found dry", unit: "" },
];

/**
 * What a source reports beside its shares, and the loss of its newest samples, in a fixed order; what it does not report is left out, and so is a counter
 * of trouble that stands at 0.
 */
export function figuresOf(source: MixtureSource, loss?: number | null): Figure[] {
  const told: Readonly<Record<string, unknown>> = source;
  const trained: Figure[] =
    loss == null ? [] : [{ label: "loss", value: Number(loss.toPrecision(3)), unit: "" }];
  const reported = KNOWN.flatMap(({ key, label, unit }) => {
    const value = told[key];
    if (typeof value !== "number" || value < 0) return [];
    if (value === 0 && (key === "jumped" || key === "skipped" || key === "shortfall")) return [];
    return [{ label, value: Math.round(value * 10) / 10, unit }] as const;
  });
  return [...trained, ...reported];
}
