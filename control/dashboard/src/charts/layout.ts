/** Which charts a run has: a pure function of the names of its metrics. */

export interface ChartSpec {
  id: string;
  title: string;
  /** One metric: a curve per branch. Several: a curve per metric, of the current branch. */
  metrics: readonly string[];
}

const FIRST = ["loss", "learning_rate", "lr", "grad_norm"];
const TITLES: Readonly<Record<string, string>> = {
  loss: "Loss",
  learning_rate: "Learning rate",
  lr: "Learning rate",
  grad_norm: "Gradient norm",
  steps_per_second: "Steps per second",
  samples_per_second: "Samples per second",
};

/** Names such as `loss/live` and `loss/base` share a chart; `sources/live/loss` and `sources/base/loss` do so, too. */
export function chartsFor(metrics: readonly string[]): ChartSpec[] {
  const groups = new Map<string, string[]>();
  for (const metric of metrics) {
    const id = groupOf(metric);
    groups.set(id, [...(groups.get(id) ?? []), metric]);
  }
  return [...groups]
    .map(([id, members]) => ({ id, title: titleOf(id), metrics: members }))
    .sort(byImportance);
}

/** What a curve is called inside its chart. */
export function curveName(metric: string): string {
  const parts = metric.split("/");
  if (parts[0] === "sources" && parts.length === 3) return parts[1] ?? metric;
  return parts.length > 1 ? parts.slice(1).join("/") : metric;
}

/** The charts that are shown until somebody chooses. */
export function shownAtFirst(charts: readonly ChartSpec[]): string[] {
  return charts.slice(0, 6).map((chart) => chart.id);
}

function groupOf(metric: string): string {
  const parts = metric.split("/");
  if (parts[0] === "sources" && parts.length === 3) return `${parts[2]} by source`;
  return parts.length > 1 ? `${parts[0]}/*` : metric;
}

function titleOf(id: string): string {
  if (id.endsWith(" by source")) return sentence(id);
  if (id.endsWith("/*")) return `${sentence(id.slice(0, -2))} by part`;
  return TITLES[id] ?? sentence(id);
}

function sentence(name: string): string {
  const words = name.replaceAll(/[_.]/g, " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function byImportance(one: ChartSpec, other: ChartSpec): number {
  return rank(one) - rank(other) || one.id.localeCompare(other.id);
}

function rank({ id }: ChartSpec): number {
  const at = FIRST.indexOf(id);
  if (at >= 0) return at;
  if (id.startsWith("loss")) return FIRST.length;
  return id.startsWith("eval") ? FIRST.length + 1 : FIRST.length + 2;
}
