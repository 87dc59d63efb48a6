/** Numbers as people type and read them. */

export type Parsed = { value: number } | { problem: string };

export interface Bounds {
  minimum?: number | undefined;
  maximum?: number | undefined;
  exclusiveMinimum?: number | undefined;
  exclusiveMaximum?: number | undefined;
}

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** Reads free text such as `1e-5`, `0.5` or `3`; says what is wrong rather than changing what was typed. */
export function parseNumber(text: string, bounds: Bounds = {}): Parsed {
  const trimmed = text.trim();
  if (trimmed === "") return { problem: "A number is needed, for instance 1e-5." };
  if (!NUMBER.test(trimmed)) return { problem: `"${trimmed}" is not a number; write it like 0.001 or 1e-3.` };
  const value = Number(trimmed);
  if (!Number.isFinite(value)) return { problem: `${trimmed} is too large.` };
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = bounds;
  if (minimum !== undefined && value < minimum) return { problem: `At least ${brief(minimum)}.` };
  if (maximum !== undefined && value > maximum) return { problem: `At most ${brief(maximum)}.` };
  if (exclusiveMinimum !== undefined && value <= exclusiveMinimum)
    return { problem: `More than ${brief(exclusiveMinimum)}.` };
  if (exclusiveMaximum !== undefined && value >= exclusiveMaximum)
    return { problem: `Less than ${brief(exclusiveMaximum)}.` };
  return { value };
}

/** A value in few characters: `0.0123`, `1e-5`, `12.3k`. */
export function brief(value: number, digits = 4): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "not a number" : value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e15 || size < 1e-3) return exponent(value, digits);
  if (size >= 1e9) return `${trim(value / 1e9, 3)}G`;
  if (size >= 1e6) return `${trim(value / 1e6, 3)}M`;
  if (size >= 1e5) return `${trim(value / 1e3, 3)}k`;
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  return trim(value, digits);
}

/** A step or a count, in full however large: two neighbours never read the same. */
export function whole(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

/** A duration in its largest sensible unit: `450 ms`, `12 s`, `3 min`, `2.5 h`, `4 d`. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "–";
  const size = Math.abs(seconds);
  if (size < 1) return `${Math.round(seconds * 1000)} ms`;
  if (size < 10) return `${trim(seconds, 2)} s`;
  if (size < 120) return `${Math.round(seconds)} s`;
  if (size < 7200) return `${Math.round(seconds / 60)} min`;
  if (size < 172_800) return `${trim(seconds / 3600, 2)} h`;
  return `${trim(seconds / 86_400, 2)} d`;
}

/** A share as a percentage with one decimal. */
export function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

function trim(value: number, digits: number): string {
  return String(Number(value.toPrecision(digits)));
}

function exponent(value: number, digits: number): string {
  const [mantissa = "", power = ""] = value.toExponential(digits - 1).split("e");
  return `${Number(mantissa)}e${Number(power)}`;
}
