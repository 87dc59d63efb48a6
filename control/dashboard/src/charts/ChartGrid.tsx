import { useMemo, useState, useSyncExternalStore } from "react";
import type { RunSummary } from "../api/types";
import { useCommands, useRun, useSeat, useVersions } from "../app/context";
import { isNumber, isStrings, usePersistent } from "../app/persistent";
import type { Theme } from "../app/theme";
import type { MetricStore } from "../live/metrics";
import { Button } from "../ui/Button";
import { whole } from "../ui/numbers";
import { Chart, type CurveSource } from "./Chart";
import { ComparePicker } from "./ComparePicker";
import { seriesColor } from "./colors";
import { marksOf } from "./interventions";
import { type ChartSpec, chartsFor, curveName, shownAtFirst } from "./layout";
import { MetricPicker } from "./MetricPicker";
import { panned, pinnedFirst } from "./pan";
import type { Zoom } from "./plot";
import { type Compared, useCompared } from "./useCompared";
import "uplot/dist/uPlot.min.css";
import "./charts.css";

/** Curves of more branches than this cannot be told apart. */
const MOST_BRANCHES = 6;
const NONE: readonly string[] = [];
/** How far the buttons move the window, in parts of its width. */
const PAN = 0.5;

export function ChartGrid({ theme, runs }: { theme: Theme; runs: readonly RunSummary[] }) {
  const { session } = useSeat();
  const run = useRun();
  const names = useSyncExternalStore(session.metrics.onNames, session.metrics.snapshot);
  const sources = Object.keys(run?.mixture?.sources ?? {}).join("\n");
  const charts = useMemo(() => chartsFor(names.metrics, sources.split("\n")), [names, sources]);
  const [smoothing, setSmoothing] = usePersistent("smoothing", 0.6, isNumber);
  const [logs, setLogs] = usePersistent("log-axes", NONE, isStrings);
  const [chosen, setChosen] = usePersistent<readonly string[] | null>("charts", null, isChoice);
  const [pinned, setPinned] = usePersistent("pinned-charts", NONE, isStrings);
  const [zoom, setZoom] = useState<Zoom>();
  const others = runs.filter((other) => other.run !== session.run);
  const [comparing, setComparing] = usePersistent("compare", NONE, isStrings);
  const compared = useCompared(comparing, others);
  const commands = useCommands();
  const versions = useVersions()?.versions;
  const branch = run?.branch ?? "main";
  const branches = run?.branches;
  const marks = useMemo(
    () => marksOf(commands, versions ?? [], branches ?? [], branch),
    [commands, versions, branches, branch],
  );

  const shown = chosen ?? shownAtFirst(charts);
  const visible = pinnedFirst(
    charts.filter(({ id }) => shown.includes(id) || pinned.includes(id)),
    pinned,
  );
  const pan = (parts: number) =>
    setZoom((now) => now && panned(now, wholeRange(session.metrics, compared), parts));
  const togglePin = (id: string, on: boolean) =>
    setPinned(on ? [...pinned, id] : pinned.filter((other) => other !== id));
  const toggleLog = (id: string, on: boolean) =>
    setLogs(on ? [...logs, id] : logs.filter((other) => other !== id));

  return (
    <section aria-label="Charts" className="charts">
      <div className="chart-tools">
        <label className="row smoothing">
          <span>Smoothing</span>
          <input
            type="range"
            min={0}
            max={0.99}
            step={0.01}
            value={smoothing}
            aria-valuetext={smoothing === 0 ? "none" : smoothing.toFixed(2)}
            onChange={(event) => setSmoothing(Number(event.target.value))}
          />
          <output className="mono">{smoothing.toFixed(2)}</output>
        </label>
        <span className="grow" />
        {zoom && (
          <span className="row zoomed">
            <Button small kind="ghost" aria-label="Earlier steps" onClick={() => pan(-PAN)}>
              ◂
            </Button>
            <Button small kind="ghost" onClick={() => setZoom(undefined)}>
              steps {whole(zoom.min)}–{whole(zoom.max)} · show all
            </Button>
            <Button small kind="ghost" aria-label="Later steps" onClick={() => pan(PAN)}>
              ▸
            </Button>
          </span>
        )}
        <ComparePicker runs={others} chosen={comparing} onChange={setComparing} />
        <MetricPicker charts={charts} shown={shown} onChange={setChosen} />
      </div>
      {charts.length === 0 && <NoPoints running={run?.status === "running"} />}
      <div className="chart-grid">
        {visible.map((chart) => (
          <ChartOf
            key={chart.id}
            chart={chart}
            store={session.metrics}
            branches={names.branches}
            branch={branch}
            marks={marks}
            smoothing={chart.exact ? 0 : smoothing}
            compared={compared}
            window={zoom ? () => zoom : () => wholeRange(session.metrics, compared)}
            log={logs.includes(chart.id)}
            onLog={(on) => toggleLog(chart.id, on)}
            onZoom={setZoom}
            onPan={zoom && pan}
            theme={theme}
            pinned={pinned.includes(chart.id)}
            onPin={(on) => togglePin(chart.id, on)}
            onHide={() => {
              togglePin(chart.id, false);
              setChosen(shown.filter((id) => id !== chart.id));
            }}
          />
        ))}
      </div>
    </section>
  );
}

function isChoice(value: unknown): value is readonly string[] | null {
  return value === null || isStrings(value);
}

interface ChartOfProps extends Omit<Parameters<typeof Chart>[0], "title" | "curves"> {
  chart: ChartSpec;
  store: MetricStore;
  branches: readonly string[];
  branch: string;
  compared: readonly Compared[];
}

function ChartOf({ chart, store, branches, branch, compared, ...rest }: ChartOfProps) {
  const curves = useMemo(
    () => curvesOf(chart, store, branches, branch, compared),
    [chart, store, branches, branch, compared],
  );
  return <Chart title={chart.title} curves={curves} {...rest} />;
}

/** The steps of this run and of those that it is compared with. */
function wholeRange(store: MetricStore, compared: readonly Compared[]): Zoom | undefined {
  const ranges = [store, ...compared.map((other) => other.store)].flatMap((each) => each.range() ?? []);
  if (ranges.length === 0) return undefined;
  return {
    min: Math.min(...ranges.map(({ min }) => min)),
    max: Math.max(...ranges.map(({ max }) => max)),
  };
}

/**
 * One metric: a curve per branch, the current one last so that it lies on top, and one per compared run. Several: a
 * curve per metric.
 */
function curvesOf(
  chart: ChartSpec,
  store: MetricStore,
  branches: readonly string[],
  branch: string,
  compared: readonly Compared[],
): CurveSource[] {
  const [metric] = chart.metrics;
  if (chart.metrics.length > 1 || metric === undefined) {
    return chart.metrics.map((name, index) => ({
      name: curveName(name),
      color: seriesColor(index),
      aside: false,
      points: () => store.get(name, branch),
    }));
  }
  const others = branches.filter((name) => name !== branch).slice(1 - MOST_BRANCHES);
  const alone = others.length === 0 && compared.length === 0;
  return [
    ...compared.map(({ run, branch: on, store: theirs }, index) => ({
      name: run,
      color: seriesColor(others.length + index + 1),
      aside: false,
      points: () => theirs.get(metric, on),
    })),
    ...[...others, branch].map((name, index) => ({
      name: alone ? curveName(metric) : name,
      color: name === branch ? seriesColor(0) : seriesColor(index + 1),
      aside: name !== branch,
      points: () => store.get(metric, name),
    })),
  ];
}

function NoPoints({ running }: { running: boolean }) {
  return (
    <div className="card empty tall">
      <strong>{running ? "Waiting for the first step" : "No numbers yet"}</strong>
      <p>Every number that the trainer reports becomes a curve here, from its first step on.</p>
    </div>
  );
}
