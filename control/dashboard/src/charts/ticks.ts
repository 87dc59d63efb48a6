import { brief } from "../ui/numbers";

/** The labels of an axis, all in one notation, so that neighbours compare at a glance; one without a value has none. */
export function tickLabels(ticks: readonly (number | null)[]): string[] {
  const sizes = ticks.flatMap((tick) => (tick ? [Math.abs(tick)] : []));
  const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
  if (least < 1e-3 && most < 0.01) return labels(ticks, scientific);
  if (least >= 1e3 && most >= 1e5 && most < 1e6) return labels(ticks, thousands);
  return labels(ticks, (tick) => brief(tick, 3));
}

function labels(ticks: readonly (number | null)[], write: (tick: number) => string): string[] {
  return ticks.map((tick) => (tick === null ? "" : tick === 0 ? "0" : write(tick)));
}

function scientific(tick: number): string {
  const [mantissa = "", power = ""] = tick.toExponential(2).split("e");
  return `${Number(mantissa)}e${Number(power)}`;
}

function thousands(tick: number): string {
  return `${Number((tick / 1e3).toPrecision(4))}k`;
}
