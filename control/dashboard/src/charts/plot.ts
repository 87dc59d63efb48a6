import uPlot from "uplot";
import { type Mark, type MarkKind, placeLabels } from "./marks";
import { extent } from "./smoothing";
import { tickLabels } from "./ticks";

/** One drawn line. `faint` is the raw curve behind its smoothed one. */
export interface Line {
  label: string;
  color: string;
  faint: boolean;
  /** One of those that the chart is not about. */
  aside: boolean;
}

export interface PlotOptions {
  width: number;
  height: number;
  lines: readonly Line[];
  log: boolean;
  /** The steps that all charts show; undefined while there are none. */
  window: () => Zoom | undefined;
  marks: () => readonly Mark[];
  onZoom: (zoom: Zoom) => void;
  onCursor: (index: number | null) => void;
}

export interface Zoom {
  min: number;
  max: number;
}

const MARK_COLORS: Readonly<Record<MarkKind, string>> = {
  intervention: "--ember-text",
  version: "--calm",
  fork: "--good",
  warning: "--bad",
};
const FONT = '11px "Inter", "Segoe UI", system-ui, sans-serif';
/** The strip above the curves that holds the labels of marks: what people did in one row, versions in the other. */
const LABEL_ROWS = 2;
const LABEL_LINE = 15;
/** Of more versions, or doings of agents, than this in view only a notch is drawn: they are not to hide the curves. */
const MOST_LINES = 6;
const NOTCH = 6;
/** Fewer points than this in view are drawn as points, too. */
const SPARSE = 40;
const POINT = 6;

export function cssColor(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Builds the chart: uPlot does the drawing, this says what and in which colours. */
export function createPlot(target: HTMLElement, options: PlotOptions): uPlot {
  const { lines, log, window, onZoom, onCursor } = options;
  const axis = { stroke: cssColor("--axis"), font: FONT, ticks: { show: false } };
  const grid = { stroke: cssColor("--grid"), width: 1 };
  const plot = new uPlot(
    {
      width: options.width,
      height: options.height,
      padding: [() => stripHeight(options.marks()), 20, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: "stovetop", setSeries: false, scales: ["x", null] },
        drag: { x: true, y: false, setScale: false, dist: 4 },
        // Beside the curve that is read, not beside the raw one behind it.
        points: { size: POINT, show: (_plot, index) => cursorPoint(lines[index - 1]) as HTMLElement },
        y: false,
      },
      scales: {
        x: { time: false, range: () => stepRange(window()) },
        y: { distr: log ? 3 : 1, range: (self) => valueRange(self, log) },
      },
      axes: [
        { ...axis, grid, size: 26, values: (_, ticks) => tickLabels(ticks) },
        { ...axis, grid, size: 54, values: (_, ticks) => tickLabels(ticks) },
      ],
      series: [{}, ...lines.map(asSeries)],
      hooks: {
        draw: [(self) => drawMarks(self, options.marks())],
        setCursor: [(self) => onCursor(self.cursor.idx ?? null)],
        setSelect: [
          (self) => {
            if (self.select.width < 4) return;
            const min = Math.round(self.posToVal(self.select.left, "x"));
            const max = Math.round(self.posToVal(self.select.left + self.select.width, "x"));
            self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            if (max > min) onZoom({ min, max });
          },
        ],
      },
    },
    [[], ...lines.map(() => [])],
    target,
  );
  return plot;
}

/** None for a raw curve: uPlot takes that, though its types do not say so. */
function cursorPoint(line: Line | undefined): HTMLElement | undefined {
  if (!line || line.faint) return undefined;
  const point = document.createElement("div");
  const size = `${POINT}px`;
  Object.assign(point.style, { width: size, height: size, margin: `${-POINT / 2}px 0 0 ${-POINT / 2}px` });
  return point;
}

function asSeries(line: Line): uPlot.Series {
  return {
    label: line.label,
    stroke: line.color,
    // A line of one pixel costs a fraction of a wider or a dashed one where there is no graphics card.
    width: line.faint || line.aside ? 1 : 1.75,
    alpha: line.faint ? 0.28 : 1,
    spanGaps: true,
    points: {
      show: (_plot, _series, from, to) => !line.faint && to - from < SPARSE,
      size: POINT,
      fill: line.color,
      width: 0,
    },
  };
}

/** All charts show the same steps, also those whose metric is reported only now and then. */
function stepRange(window: Zoom | undefined): uPlot.Range.MinMax {
  if (!window) return [0, 1];
  return window.max > window.min ? [window.min, window.max] : [window.min, window.min + 1];
}

/** Fits the values between the two steps that are in view, with a little air. */
function valueRange(plot: uPlot, log: boolean): uPlot.Range.MinMax {
  const from = plot.series[0]?.idxs?.[0] ?? 0;
  const to = (plot.series[0]?.idxs?.[1] ?? plot.data[0].length - 1) + 1;
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const column of plot.data.slice(1)) {
    const found = extent(column as ArrayLike<number | null>, log, from, to);
    if (!found) continue;
    low = Math.min(low, found[0]);
    high = Math.max(high, found[1]);
  }
  if (low > high) return log ? [0.1, 1] : [0, 1];
  if (log) return low === high ? [low / 2, high * 2] : [low * 0.9, high * 1.1];
  if (high - low < 1e-6 * Math.abs(high))
    return [low - (Math.abs(low) * 0.1 || 1), high + (Math.abs(high) * 0.1 || 1)];
  const air = high > low ? (high - low) * 0.07 : 1;
  return [low - air, high + air];
}

function stripHeight(marks: readonly Mark[]): number {
  return marks.length > 0 ? LABEL_ROWS * LABEL_LINE + 4 : 10;
}

/** Vertical lines, and above the curves a label for each that has room for one. */
function drawMarks(plot: uPlot, marks: readonly Mark[]): void {
  const { min, max } = plot.scales.x ?? {};
  if (min == null || max == null) return;
  const shown = marks.filter((mark) => mark.step >= min && mark.step <= max);
  const versions = shown.filter(isVersion);
  const others = shown.filter((mark) => !isVersion(mark));
  const context = plot.ctx;
  context.save();
  context.font = FONT.replace("11px", `${10.5 * devicePixelRatio}px`);
  context.textBaseline = "middle";
  context.textAlign = "left"; // uPlot leaves it as its last axis needed it
  const byAgents = others.filter(({ agent }) => agent).length;
  drawRow(plot, others, 0, ({ agent }) => agent === true && byAgents > MOST_LINES);
  drawRow(plot, versions, 1, () => versions.length > MOST_LINES);
  context.restore();
}

function isVersion(mark: Mark): boolean {
  return mark.kind === "version";
}

function drawRow(plot: uPlot, marks: readonly Mark[], row: number, notched: (mark: Mark) => boolean): void {
  const context = plot.ctx;
  const ratio = devicePixelRatio;
  const { left, top, width } = plot.bbox;
  const boxes = marks.map((mark) => {
    const at = plot.valToPos(mark.step, "x", true);
    const size = context.measureText(mark.label).width + 6 * ratio;
    return { at, left: Math.min(at - 3 * ratio, left + width + 16 * ratio - size), width: size };
  });
  // What is only notched says its name near the pointer, and leaves the room to what people did.
  const named = marks.flatMap((mark, index) => (notched(mark) && !isVersion(mark) ? [] : [index]));
  const rows = placeLabels(
    named.map((index) => boxes[index] ?? { left: 0, width: 0 }),
    1,
  );
  const placed = new Set(named.filter((_, at) => rows[at] !== undefined));
  const middle = top - (LABEL_ROWS - row - 0.5) * LABEL_LINE * ratio;
  for (const [index, mark] of marks.entries()) {
    const box = boxes[index];
    if (!box) continue;
    const labelled = placed.has(index);
    drawLine(plot, mark, box.at, labelled ? middle + 7 * ratio : top, notched(mark));
    if (labelled) context.fillText(mark.label, box.left + 3 * ratio, middle);
  }
}

/** From `above` the curves down to the axis; a notch leaves the curves free. Leaves its colour for the label. */
function drawLine(plot: uPlot, mark: Mark, at: number, above: number, notched: boolean): void {
  const context = plot.ctx;
  const ratio = devicePixelRatio;
  const { top, height } = plot.bbox;
  const bottom = top + height;
  context.fillStyle = context.strokeStyle = cssColor(MARK_COLORS[mark.kind]);
  context.lineWidth = ratio;
  context.globalAlpha = 0.75;
  context.setLineDash(
    notched ? [] : mark.kind === "version" ? [2 * ratio, 3 * ratio] : [5 * ratio, 3 * ratio],
  );
  context.beginPath();
  context.moveTo(at, notched ? bottom - NOTCH * ratio : above);
  context.lineTo(at, bottom);
  context.stroke();
  context.globalAlpha = 1;
}
