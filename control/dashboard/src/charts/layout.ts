/** Which charts a run has: a pure function of the names of its metrics. */

export interface ChartSpec {
  id: string;
  title: string;
  /** One metric: a curve per branch. Several: a curve per metric, of the current branch. */
  metrics: readonly string[];
  /** Set points, not measurements, are drawn as they are. */
  exact: boolean;
}

const FIRST = ["loss", "learning_rate", "lr", "grad_norm"];
const EXACT: ReadonlySet<string> = new Set(["learning_rate", "lr"]);
/** Figures of the loop itself: of interest now and then. */
const LAST = /^(samples|step_seconds|data_seconds|epoch)$|_runtime$|_per_second$/;
const TITLES: Readonly<Record<string, string>> = {
  loss: "Loss",
  learning_rate: "Learning rate",
  lr: "Learning rate",
  grad_norm: "Gradient norm",
  steps_per_second: "Steps per second",
  samples_per_second: "Samples per second",
  step_seconds: "Seconds per step",
  data_seconds: "Seconds per step for data",
  samples: "Samples per step",
};

/** Names such as `loss/live` and `loss/base` share a chart. `sources` are the mixture's, known by name. */
export function chartsFor(metrics: readonly string[], sources: readonly string[] = []): ChartSpec[] {
  const groups = new Map<string, string[]>();
  for (const metric of metrics) {
    const id = groupOf(metric);
    groups.set(id, [...(groups.get(id) ?? []), metric]);
  }
  return [...groups]
    .map(([id, members]) => ({
      id,
      title: titleOf(id, members, new Set(sources)),
      metrics: members,
      exact: members.every((name) => EXACT.has(name)),
    }))
    .sort(byImportance);
}

/** What a curve is called inside its chart. */
export function curveName(metric: string): string {
  const [, ...rest] = metric.split("/");
  return rest.length > 0 ? rest.join("/") : metric;
}

/** The charts that are shown until somebody chooses. */
export function shownAtFirst(charts: readonly ChartSpec[]): string[] {
  return charts.slice(0, 6).map((chart) => chart.id);
}

function groupOf(metric: string): string {
  const [group, ...rest] = metric.split("/");
  return rest.length > 0 ? `${group}/*` : metric;
}

function titleOf(id: string, members: readonly string[], sources: ReadonlySet<string>): string {
  if (!id.endsWith("/*")) return TITLES[id] ?? sentence(id);
  const [only] = members;
  if (members.length === 1 && only !== undefined) return sentence(only.replaceAll("/", " "));
  const group = sentence(id.slice(0, -2));
  return members.every((name) => sources.has(curveName(name))) ? `${group} by source` : group;
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
  if (id === "samples") return FIRST.length + 5;
  if (LAST.test(id)) return FIRST.length + 3;
  if (id.startsWith("health/")) return FIRST.length + 4;
  return FIRST.length + (id.startsWith("eval") ? 1 : 2);
}
