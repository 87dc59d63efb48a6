import { type KeyboardEvent, useEffect, useId, useMemo, useRef, useState } from "react";
import type uPlot from "uplot";
import type { Series } from "../live/series";
import { Button } from "../ui/Button";
import { Icon } from "../ui/Icon";
import { brief, whole } from "../ui/numbers";
import { onCursor } from "./cursors";
import { Drawer, type Reading } from "./drawer";
import { onFrame, requestFrame } from "./frames";
import { type Mark, marksNear } from "./marks";
import { PointTable } from "./PointTable";
import { createPlot, type Line, type Zoom } from "./plot";

/** A curve of the chart: its name, its colour (a CSS variable), and where its points are, looked up at each draw. */
export interface CurveSource {
  name: string;
  color: string;
  /** Not what the chart is about: drawn thin and, where curves are smoothed, without its raw values. */
  aside: boolean;
  points: () => Series | undefined;
}

interface Props {
  title: string;
  curves: readonly CurveSource[];
  marks: readonly Mark[];
  smoothing: number;
  log: boolean;
  onLog: (log: boolean) => void;
  /** The steps that all charts show. */
  window: () => Zoom | undefined;
  onZoom: (zoom: Zoom | undefined) => void;
  /** Moves the window by parts of its width; undefined while it shows all steps. */
  onPan: ((parts: number) => void) | undefined;
  theme: string;
  pinned: boolean;
  onPin: (pinned: boolean) => void;
  onHide: () => void;
}

const HEIGHT = 200;

export function Chart(props: Props) {
  const { title, curves, marks, smoothing, log, window, theme } = props;
  const target = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [cursor, setCursor] = useState<number | null>(null);
  const [table, setTable] = useState(false);
  const heading = useId();

  // What the drawing code reads at each frame, without being rebuilt for it.
  const current = useRef({ marks, window, onZoom: props.onZoom, onPan: props.onPan });
  current.current = { marks, window, onZoom: props.onZoom, onPan: props.onPan };
  const smoothed = smoothing > 0;
  const structure = curves.map((curve) => `${curve.name} ${curve.color} ${curve.aside}`).join("\n");
  const drawer = useMemo(() => new Drawer(), []);
  drawer.curves = curves;
  drawer.smoothing = smoothing;

  // biome-ignore lint/correctness/useExhaustiveDependencies: rebuilt when its structure or the theme changes, no sooner
  useEffect(() => {
    const element = target.current;
    if (!element) return;
    const created = createPlot(element, {
      width: element.clientWidth || 300,
      height: HEIGHT,
      lines: linesOf(curves, smoothed),
      log,
      window: () => current.current.window(),
      marks: () => current.current.marks,
      onZoom: (wanted) => current.current.onZoom(wanted),
      onCursor: onCursor(setCursor),
    });
    plot.current = created;
    drawer.forget();
    const resize = new ResizeObserver(() => {
      if (element.clientWidth > 0) created.setSize({ width: element.clientWidth, height: HEIGHT });
    });
    resize.observe(element);
    const roll = (event: WheelEvent) => {
      const by = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
      if (by === 0 || !current.current.onPan) return;
      event.preventDefault(); // else the browser goes back a page
      current.current.onPan(by / element.clientWidth);
    };
    element.addEventListener("wheel", roll, { passive: false });
    let inView = true;
    const watch = new IntersectionObserver(([entry]) => {
      inView = entry?.isIntersecting ?? true;
      if (inView) requestFrame();
    });
    watch.observe(element);
    const stop = onFrame(() => inView && drawer.draw(created, current.current.window()));
    return () => {
      stop();
      watch.disconnect();
      resize.disconnect();
      element.removeEventListener("wheel", roll);
      created.destroy();
      plot.current = null;
    };
  }, [structure, smoothed, log, theme, drawer]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: these change what is drawn without a new point
  useEffect(() => {
    drawer.forget();
    requestFrame();
  }, [marks, window, smoothing, drawer]);

  // The first mark needs room above the curves, which uPlot looks at again only when it is told to.
  const marked = marks.length > 0;
  // biome-ignore lint/correctness/useExhaustiveDependencies: it is looked at by the plot, not here
  useEffect(() => {
    plot.current?.redraw(true, true);
  }, [marked]);

  const readout = readoutAt(curves, drawer, plot.current, cursor);
  const near = nearby(plot.current, marks, cursor);
  const broken = curves.reduce((sum, curve) => sum + (curve.points()?.notFinite ?? 0), 0);

  return (
    <section className="chart card" aria-labelledby={heading}>
      <div className="chart-head">
        <h2 id={heading} className="ellipsis">
          {title}
        </h2>
        <span className="grow muted small">
          {readout.step !== undefined && <>step {whole(readout.step)}</>}
        </span>
        {broken > 0 && (
          <span
            className="pill bad"
            title="These values were infinite or not a number; no point is drawn for them."
          >
            {broken} not finite
          </span>
        )}
        <Button kind="ghost" small aria-pressed={log} onClick={() => props.onLog(!log)}>
          log
        </Button>
        <Button
          kind="ghost"
          small
          aria-pressed={props.pinned}
          aria-label={`Pin ${title}`}
          title={props.pinned ? "No longer first" : "Keep it first"}
          onClick={() => props.onPin(!props.pinned)}
        >
          <Icon name="pin" size={14} />
        </Button>
        <Button
          kind="ghost"
          small
          aria-label={`Values of ${title} as a table`}
          onClick={() => setTable(true)}
        >
          <Icon name="table" size={14} />
        </Button>
        <Button kind="ghost" small aria-label={`Hide ${title}`} onClick={props.onHide}>
          <Icon name="close" size={14} />
        </Button>
      </div>
      <ul className="chart-legend" aria-live={cursor === null ? "off" : "polite"}>
        {readout.values.map((entry) => (
          <li key={entry.name}>
            <span className="swatch" style={{ background: `var(${entry.color})` }} />
            {curves.length > 1 && <span className="muted ellipsis">{entry.name}</span>}
            <span className="mono">{entry.value === undefined ? "–" : brief(entry.value)}</span>
            {entry.raw !== undefined && curves.length === 1 && (
              <span className="mono muted">({brief(entry.raw)})</span>
            )}
          </li>
        ))}
      </ul>
      {/* biome-ignore lint/a11y/useSemanticElements: a drawing that takes arrow keys has no element of its own */}
      <div
        ref={target}
        className="chart-plot"
        role="group"
        aria-label={`${title}: curve over steps. Arrow keys read it, Escape shows all steps.`}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it is interactive, by the arrow keys
        tabIndex={0}
        onKeyDown={(event) => {
          if (event.key === "Escape") props.onZoom(undefined);
          else if (plot.current) moveCursor(plot.current, event);
        }}
        onDoubleClick={() => props.onZoom(undefined)}
        onBlur={() => plot.current?.setCursor({ left: -10, top: -10 })}
      />
      {near.length > 0 && (
        <ul className="chart-marks">
          {near.slice(0, 3).map((mark) => (
            <li key={`${mark.step}-${mark.kind}-${mark.label}`} className={mark.kind}>
              <span className="mono">{whole(mark.step)}</span> {mark.title}
            </li>
          ))}
        </ul>
      )}
      {table && <PointTable title={title} curves={curves} onClose={() => setTable(false)} />}
    </section>
  );
}

function linesOf(curves: readonly CurveSource[], smoothed: boolean): Line[] {
  return curves.flatMap(({ name, color, aside }) => {
    const value = getComputedStyle(document.documentElement).getPropertyValue(color).trim();
    const line = { label: name, color: value, faint: false, aside };
    return smoothed && !aside ? [{ ...line, faint: true }, line] : [line];
  });
}

interface Readout {
  step: number | undefined;
  values: (Reading & { name: string; color: string })[];
}

/** The values at the cursor, or the newest ones. */
function readoutAt(
  curves: readonly CurveSource[],
  drawer: Drawer,
  plot: uPlot | null,
  cursor: number | null,
): Readout {
  const at = cursor === null ? undefined : plot?.data[0][cursor];
  if (at === undefined) {
    const newest = ({ name, color, points }: CurveSource) => ({
      name,
      color,
      value: points()?.last()?.value,
      raw: undefined,
    });
    return { step: undefined, values: curves.map(newest) };
  }
  const found = curves.map((curve) => ({ curve, ...drawer.read(curve, at) }));
  return {
    step: found.find(({ step }) => step !== undefined)?.step ?? Math.round(at),
    values: found.map(({ curve: { name, color }, value, raw }) => ({ name, color, value, raw })),
  };
}

function nearby(plot: uPlot | null, marks: readonly Mark[], cursor: number | null): Mark[] {
  const { min, max } = plot?.scales.x ?? {};
  const left = plot?.cursor.left ?? -1;
  if (!plot || cursor === null || left < 0 || min == null || max == null) return [];
  // Where the cursor is, not its nearest point: a metric may be reported only now and then.
  const step = plot.posToVal(left, "x");
  return marksNear(marks, step, (max - min) * 0.012);
}

function moveCursor(plot: uPlot, event: KeyboardEvent): void {
  const last = plot.data[0].length - 1;
  const stride = event.shiftKey ? 20 : 1;
  const at = plot.cursor.idx ?? last;
  const wanted = { ArrowLeft: at - stride, ArrowRight: at + stride, Home: 0, End: last }[event.key];
  if (wanted === undefined || last < 0) return;
  event.preventDefault();
  const step = plot.data[0][Math.min(last, Math.max(0, wanted))];
  if (step !== undefined) plot.setCursor({ left: plot.valToPos(step, "x"), top: 10 });
}
