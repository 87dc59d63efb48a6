/**
 * The pointer over one chart moves the cursors of all. What they read there is said together, at most every `INTERVAL`
 * milliseconds, so that React has one thing to do then, not one for each chart and movement.
 */

const INTERVAL = 80;
const waiting = new Map<(index: number | null) => void, number | null>();
let timer: ReturnType<typeof setTimeout> | undefined;

/** A listener for a plot, which passes on where its cursor is. */
export function onCursor(tell: (index: number | null) => void): (index: number | null) => void {
  return (index) => {
    waiting.set(tell, index);
    if (timer === undefined) timer = setTimeout(flush, INTERVAL);
  };
}

function flush(): void {
  timer = undefined;
  for (const [tell, index] of waiting) tell(index);
  waiting.clear();
}
