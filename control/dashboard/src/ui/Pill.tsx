import type { ReactNode } from "react";

type Tone = "good" | "warn" | "bad" | "calm" | "ember" | "plain";

export const SHAPES: Readonly<Record<Tone, string>> = {
  good: "●",
  warn: "▲",
  bad: "✕",
  calm: "◌",
  ember: "◆",
  plain: "○",
};

/** A state in a word, with a shape beside its colour. */
export function Pill({
  tone,
  children,
  title,
}: {
  tone: Tone;
  children: ReactNode;
  title?: string | undefined;
}) {
  return (
    <span className={`pill ${tone}`} title={title}>
      <span aria-hidden="true">{SHAPES[tone]}</span>
      {children}
    </span>
  );
}
