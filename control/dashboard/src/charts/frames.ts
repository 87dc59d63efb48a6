/** One animation frame for all charts, at most every `INTERVAL` milliseconds, and none while nothing changed. */

const INTERVAL = 200;
const painters = new Set<() => void>();
let scheduled = false;
let lastPaint = 0;

/** Paints in the next frame in which something changed, and from then on. */
export function onFrame(paint: () => void): () => void {
  painters.add(paint);
  requestFrame();
  return () => painters.delete(paint);
}

export function requestFrame(): void {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(frame);
}

function frame(now: number): void {
  if (now - lastPaint < INTERVAL) {
    requestAnimationFrame(frame);
    return;
  }
  scheduled = false;
  lastPaint = now;
  for (const paint of painters) paint();
}
