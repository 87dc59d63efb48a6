import uPlot from "uplot";
import { brief } from "../ui/numbers";
import { type Mark, type MarkKind, placeLabels } from "./marks";
import { extent } from "./smoothing";

/** One drawn line. `faint` is the raw curve behind its smoothed one. */
export interface Line {
  label: string;
  color: string;
  faint: boolean;
  dashed: boolean;
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
const LABEL_ROWS = 3;
/** Fewer points than this in view are drawn as points, too. */
const SPARSE = 40;

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
      padding: [10, 20, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: "stovetop", setSeries: false, scales: ["x", null] },
        drag: { x: true, y: false, setScale: false, dist: 4 },
        points: { size: 6 },
        y: false,
      },
      scales: {
        x: { time: false, range: () => stepRange(window()) },
        y: { distr: log ? 3 : 1, range: (self) => valueRange(self, log) },
      },
      axes: [
        { ...axis, grid, size: 26, values: (_, ticks) => ticks.map((tick) => brief(tick)) },
        {
          ...axis,
          grid,
          size: 54,
          values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : brief(tick, 3))),
        },
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

function asSeries(line: Line): uPlot.Series {
  return {
    label: line.label,
    stroke: line.color,
    width: line.faint ? 1 : 1.75,
    alpha: line.faint ? (line.dashed ? 0.15 : 0.28) : 1,
    ...(line.dashed && !line.faint ? { dash: [5, 4] } : {}),
    spanGaps: true,
    points: {
      show: (_plot, _series, from, to) => !line.faint && to - from < SPARSE,
      size: 6,
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

/** Vertical lines with a small flag; a label where it covers no other one. */
function drawMarks(plot: uPlot, marks: readonly Mark[]): void {
  const { min, max } = plot.scales.x ?? {};
  if (min == null || max == null) return;
  const shown = marks.filter((mark) => mark.step >= min && mark.step <= max);
  if (shown.length === 0) return;
  const ratio = devicePixelRatio;
  const { left, top, width, height } = plot.bbox;
  const context = plot.ctx;
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  context.font = FONT.replace("11px", `${10.5 * ratio}px`);
  context.textBaseline = "middle";
  context.textAlign = "left"; // uPlot leaves it as its last axis needed it
  const boxes = shown.map((mark) => {
    const at = plot.valToPos(mark.step, "x", true);
    const size = context.measureText(mark.label).width + 8 * ratio;
    const right = at + 2 * ratio;
    return { at, left: right + size > left + width ? at - size - 2 * ratio : right, width: size };
  });
  const rows = placeLabels(boxes, LABEL_ROWS);
  const place = { top, height, ratio, surface: cssColor("--surface") };
  // All lines, then all labels, so that no line crosses a label.
  shown.forEach((mark, index) => {
    const box = boxes[index];
    if (box) drawLine(context, mark, box.at, place);
  });
  shown.forEach((mark, index) => {
    const box = boxes[index];
    const row = rows[index];
    if (box && row !== undefined) drawLabel(context, mark, box, row, place);
  });
  context.restore();
}

interface Place {
  top: number;
  height: number;
  ratio: number;
  surface: string;
}

function drawLine(context: CanvasRenderingContext2D, mark: Mark, at: number, place: Place): void {
  const { top, height, ratio } = place;
  context.strokeStyle = cssColor(MARK_COLORS[mark.kind]);
  context.globalAlpha = 0.75;
  context.lineWidth = ratio;
  context.setLineDash(mark.kind === "version" ? [2 * ratio, 3 * ratio] : [5 * ratio, 3 * ratio]);
  context.beginPath();
  context.moveTo(at, top);
  context.lineTo(at, top + height);
  context.stroke();
  context.globalAlpha = 1;
}

function drawLabel(
  context: CanvasRenderingContext2D,
  mark: Mark,
  box: { left: number; width: number },
  row: number,
  { top, ratio, surface }: Place,
): void {
  const line = 15 * ratio;
  context.fillStyle = surface;
  context.globalAlpha = 0.9;
  context.fillRect(box.left, top + row * line, box.width, line);
  context.globalAlpha = 1;
  context.fillStyle = cssColor(MARK_COLORS[mark.kind]);
  context.fillText(mark.label, box.left + 4 * ratio, top + row * line + line / 2);
}
