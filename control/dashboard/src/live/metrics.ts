import type { MetricSeries } from "../api/types";
import { Series } from "./series";

/** Every number of a metrics event, nested ones under `a/b`; null stands for a number that was not finite. */
export function flatten(body: Readonly<Record<string, unknown>>, prefix = ""): [string, number | null][] {
  const found: [string, number | null][] = [];
  for (const [key, value] of Object.entries(body)) {
    const name = prefix ? `${prefix}/${key}` : key;
    if (typeof value === "number" || value === null) found.push([name, value]);
    else if (typeof value === "object" && !Array.isArray(value)) {
      found.push(...flatten(value as Record<string, unknown>, name));
    }
  }
  return found;
}

/**
 * All live points of one run: metric by branch, outside React.
 *
 * Readers are told once that something changed and look when they next draw; only a new name of a metric or branch
 * makes React render.
 */
export class MetricStore {
  private readonly branches = new Map<string, Map<string, Series>>();
  private readonly pointListeners = new Set<() => void>();
  private readonly nameListeners = new Set<() => void>();
  private names: { metrics: readonly string[]; branches: readonly string[] } = { metrics: [], branches: [] };

  add(branch: string, step: number, body: Readonly<Record<string, unknown>>): void {
    for (const [metric, value] of flatten(body)) this.seriesFor(branch, metric).append(step, { value });
    for (const listener of this.pointListeners) listener();
  }

  /** Takes over a whole history: steps in rising order, null for what was not finite. */
  fill(history: MetricSeries): void {
    const series = this.seriesFor(history.branch, history.metric);
    for (const [index, step] of history.steps.entries()) {
      const [value, low, high] = [history.mean[index], history.low[index], history.high[index]];
      series.append(step, { value: value ?? null, low, high });
    }
    for (const listener of this.pointListeners) listener();
  }

  /** As `fill`, in place of what was there. */
  replace(history: MetricSeries): void {
    this.seriesFor(history.branch, history.metric).cutFrom(Number.NEGATIVE_INFINITY);
    this.fill(history);
  }

  /** The series of a metric on a branch; undefined while it has no points. */
  get(metric: string, branch: string): Series | undefined {
    return this.branches.get(branch)?.get(metric);
  }

  /** The first and the newest step of any series; undefined while there is none. */
  range(): { min: number; max: number } | undefined {
    let min = Number.POSITIVE_INFINITY;
    let max = Number.NEGATIVE_INFINITY;
    for (const metrics of this.branches.values()) {
      for (const { x } of metrics.values()) {
        min = Math.min(min, x[0] ?? min);
        max = Math.max(max, x[x.length - 1] ?? max);
      }
    }
    return min > max ? undefined : { min, max };
  }

  /** Stable until a name is added, as `useSyncExternalStore` wants it. */
  readonly snapshot = () => this.names;

  readonly onNames = (listener: () => void) => {
    this.nameListeners.add(listener);
    return () => this.nameListeners.delete(listener);
  };

  readonly onPoints = (listener: () => void) => {
    this.pointListeners.add(listener);
    return () => this.pointListeners.delete(listener);
  };

  clear(): void {
    this.branches.clear();
    this.names = { metrics: [], branches: [] };
    for (const listener of [...this.nameListeners, ...this.pointListeners]) listener();
  }

  private seriesFor(branch: string, metric: string): Series {
    const metrics = this.branches.get(branch) ?? new Map<string, Series>();
    this.branches.set(branch, metrics);
    const known = metrics.get(metric);
    if (known) return known;
    const series = new Series();
    metrics.set(metric, series);
    this.rename();
    return series;
  }

  private rename(): void {
    const metrics = new Set<string>();
    for (const branch of this.branches.values()) for (const name of branch.keys()) metrics.add(name);
    this.names = { metrics: [...metrics].sort(), branches: [...this.branches.keys()] };
    for (const listener of this.nameListeners) listener();
  }
}
