import type { ChartSpec } from "./layout";
import type { Zoom } from "./plot";

/** The window moved by `parts` of its own width (less than 0: to earlier steps), and no further than there are steps. */
export function panned(zoom: Zoom, whole: Zoom | undefined, parts: number): Zoom {
  if (!whole) return zoom;
  const wanted = Math.round((zoom.max - zoom.min) * parts);
  // A window that begins before the first step, or goes beyond the last, is left where it is on that side.
  const least = Math.min(0, whole.min - zoom.min);
  const most = Math.max(0, whole.max - zoom.max);
  const by = Math.min(most, Math.max(least, wanted));
  return by === 0 ? zoom : { min: zoom.min + by, max: zoom.max + by };
}

/** Pinned charts first, in the order in which they were pinned; the others as they were. */
export function pinnedFirst(charts: readonly ChartSpec[], pinned: readonly string[]): ChartSpec[] {
  const place = (id: string) => {
    const at = pinned.indexOf(id);
    return at < 0 ? pinned.length : at;
  };
  return [...charts].sort((one, other) => place(one.id) - place(other.id));
}
