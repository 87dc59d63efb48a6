/**
 * The frames in which charts are drawn: all of them at most every `INTERVAL` milliseconds, none while nothing changed,
 * and in one frame only as many as fit into `BUDGET`, so that the page stays smooth however many there are.
 */

const INTERVAL = 200;
/** Milliseconds of one frame: half of one at 60 a second. */
const BUDGET = 8;
const painters = new Set<() => void>();
let waiting: (() => void)[] = [];
let changed = false;
let scheduled = false;
let lastPaint = 0;

/** Paints in the next frame in which something changed, and from then on. */
export function onFrame(paint: () => void): () => void {
  painters.add(paint);
  requestFrame();
  return () => {
    painters.delete(paint);
    waiting = waiting.filter((other) => other !== paint);
  };
}

export function requestFrame(): void {
  changed = true;
  schedule();
}

function schedule(): void {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(frame);
}

function frame(now: number): void {
  scheduled = false;
  if (waiting.length === 0 && changed && now - lastPaint >= INTERVAL) {
    lastPaint = now;
    changed = false;
    waiting = [...painters];
  }
  const end = performance.now() + BUDGET;
  while (waiting.length > 0 && performance.now() < end) waiting.shift()?.();
  if (waiting.length > 0 || changed) schedule();
}
