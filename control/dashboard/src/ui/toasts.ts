import { Observable } from "../live/observable";

export interface Toast {
  tone: "good" | "bad" | "calm";
  title: string;
  detail?: string;
}

export interface ShownToast extends Toast {
  id: number;
}

const SECONDS = { good: 5, calm: 6, bad: 15 } as const;
const MOST = 4;

export const toasts = new Observable<readonly ShownToast[]>([]);
let nextId = 1;

/** Shows a short message in the corner; it is read out, and goes by itself, a bad one later. */
export function toast(message: Toast): void {
  const shown = { ...message, id: nextId++ };
  toasts.set([...toasts.get(), shown].slice(-MOST));
  setTimeout(() => dismiss(shown.id), SECONDS[message.tone] * 1000);
}

export function dismiss(id: number): void {
  toasts.set(toasts.get().filter((shown) => shown.id !== id));
}
