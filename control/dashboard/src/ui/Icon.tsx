import type { ReactNode } from "react";

/** The few icons of the page, drawn on a 16 by 16 grid. */
const PATHS = {
  pause: <path d="M5.5 3.5v9M10.5 3.5v9" strokeWidth="2.4" />,
  play: <path d="M5 3.2v9.6L12.6 8z" fill="currentColor" />,
  stop: <rect x="4" y="4" width="8" height="8" rx="1.2" fill="currentColor" />,
  save: <path d="M8 2.5v7.5M4.8 7 8 10.2 11.2 7M3 13.3h10" />,
  evaluate: <path d="M3 13V8M8 13V3M13 13v-3.5" strokeWidth="2" />,
  publish: <path d="M8 13.5V5M4.6 8 8 4.6 11.4 8M3 2.5h10" />,
  branch: (
    <>
      <circle cx="4.5" cy="3.5" r="1.6" />
      <circle cx="4.5" cy="12.5" r="1.6" />
      <circle cx="11.5" cy="6" r="1.6" />
      <path d="M4.5 5.2v5.6M4.5 9.5c4 0 7-.6 7-1.9" />
    </>
  ),
  undo: <path d="M3 6.5h6.5a3.5 3.5 0 0 1 0 7H7M5.8 3.5 2.8 6.5l3 3" />,
  pin: <path d="M5.5 2.5h5l-.8 4.2 1.8 2.3h-7l1.8-2.3zM8 9v4.8" />,
  close: <path d="m4 4 8 8M12 4l-8 8" />,
  copy: (
    <>
      <rect x="5.5" y="5.5" width="8" height="8" rx="1.5" />
      <path d="M10.5 5.5v-2a1 1 0 0 0-1-1h-6a1 1 0 0 0-1 1v6a1 1 0 0 0 1 1h2" />
    </>
  ),
  check: <path d="m3 8.5 3.2 3.2L13 4.8" />,
  sun: (
    <>
      <circle cx="8" cy="8" r="2.8" />
      <path d="M8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M3.4 12.6l.9-.9M11.7 4.3l.9-.9" />
    </>
  ),
  moon: <path d="M13 9.6A5.6 5.6 0 0 1 6.4 3a5.6 5.6 0 1 0 6.6 6.6z" />,
  keyboard: (
    <>
      <rect x="1.5" y="4" width="13" height="8.5" rx="1.5" />
      <path d="M4 6.8h.01M6.7 6.8h.01M9.3 6.8h.01M12 6.8h.01M5 9.8h6" />
    </>
  ),
  table: (
    <>
      <rect x="2.5" y="3" width="11" height="10" rx="1.2" />
      <path d="M2.5 6.3h11M2.5 9.6h11M8 6.3V13" />
    </>
  ),
  flame: (
    <path
      d="M8.3 1.6c.5 2.7-3.5 4.4-3.5 8.2a3.6 3.6 0 0 0 3.6 3.8c2.3 0 3.9-1.7 3.9-3.9 0-1.6-.9-2.8-1.6-3.5-.1 1-.5 1.7-1.1 2C9.9 6 9.8 3.4 8.3 1.6z"
      fill="currentColor"
    />
  ),
} satisfies Record<string, ReactNode>;

export type IconName = keyof typeof PATHS;

/** Decoration: it always stands beside its word or in a button with a name. */
export function Icon({ name, size = 16 }: { name: IconName; size?: number }) {
  return (
    <svg
      width={size}
      height={size}
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.6"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
    >
      {PATHS[name]}
    </svg>
  );
}
