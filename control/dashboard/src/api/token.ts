/**
 * The bearer token of this tab: asked once, kept for the tab's life only, never in a URL that is stored or sent.
 *
 * A link may carry it as a fragment (`/#token=stv_…`), which browsers do not send to servers; it is taken out of the
 * address bar at once.
 */
const KEY = "stovetop-token";

/** Takes the token out of the address, if it carries one, and remembers it. */
export function adoptTokenFromAddress(): void {
  const { token, rest } = splitFragment(window.location.hash);
  if (token === undefined) return;
  window.sessionStorage.setItem(KEY, token);
  const { pathname, search } = window.location;
  window.history.replaceState(null, "", pathname + search + rest);
}

/** Separates `token=…` from whatever else a fragment says. */
export function splitFragment(hash: string): { token: string | undefined; rest: string } {
  const parts = hash.replace(/^#/, "").split("&").filter(Boolean);
  const given = parts.find((part) => part.startsWith("token="));
  const others = parts.filter((part) => !part.startsWith("token="));
  return {
    token: given === undefined ? undefined : decodeURIComponent(given.slice("token=".length)),
    rest: others.length > 0 ? `#${others.join("&")}` : "",
  };
}

export function storedToken(): string | null {
  return window.sessionStorage.getItem(KEY);
}

export function rememberToken(token: string): void {
  window.sessionStorage.setItem(KEY, token);
}

export function forgetToken(): void {
  window.sessionStorage.removeItem(KEY);
}
