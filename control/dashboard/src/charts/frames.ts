/**
 * The frames in which charts are drawn: all of them at most every `INTERVAL` milliseconds, none while nothing changed,
 * and one in a frame. What a canvas costs without a graphics card is paid after the script has run, where no clock in
 * it sees it; so charts take turns, and the page stays smooth however many there are.
 */

const INTERVAL = 200;
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
  waiting.shift()?.();
  if (waiting.length > 0 || changed) schedule();
}
