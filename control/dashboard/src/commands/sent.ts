import { Observable } from "../live/observable";

/** The identities of commands that this tab sent and may take back, over reloads; the newest last. */
const KEY = "stovetop-sent";
const KEPT = 50;

export const sent = new Observable<ReadonlySet<string>>(new Set(stored()));

export function rememberSent(uuid: string): void {
  const uuids = [...sent.get(), uuid].slice(-KEPT);
  sent.set(new Set(uuids));
  window.sessionStorage.setItem(KEY, JSON.stringify(uuids));
}

function stored(): string[] {
  try {
    const found: unknown = JSON.parse(window.sessionStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((uuid) => typeof uuid === "string") : [];
  } catch {
    return []; // somebody else's text under this key
  }
}
