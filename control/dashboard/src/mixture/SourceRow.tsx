import { useId, useState } from "react";
import type { MixtureSource } from "../api/types";
import { seriesColor } from "../charts/colors";
import { Button } from "../ui/Button";
import { duration, parseNumber, percent } from "../ui/numbers";
import { Pill } from "../ui/Pill";
import { figuresOf } from "./figures";

interface Props {
  name: string;
  index: number;
  source: MixtureSource;
  /** That of its newest samples, where the trainer tells it. */
  loss: number | null | undefined;
  /** The share that the panel shows; `asked` is the one in force. */
  share: number;
  asked: number;
  onShare: (share: number) => void;
}

export function SourceRow({ name, index, source, loss, share, asked, onShare }: Props) {
  const id = useId();
  const [text, setText] = useState<string>();
  const shown = text ?? (share * 100).toFixed(1);
  const parsed = parseNumber(shown, { minimum: 0, maximum: 100 });
  const color = `var(${seriesColor(index)})`;
  const moved = Math.abs(share - asked) > 0.0005;

  const type = (typed: string) => {
    setText(typed);
    const number = parseNumber(typed, { minimum: 0, maximum: 100 });
    if ("value" in number) onShare(number.value / 100);
  };

  return (
    <li className="source">
      <div className="row">
        <span className="swatch" style={{ background: color }} />
        <strong className="grow ellipsis" id={`${id}-name`}>
          {name}
        </strong>
        {source.dry && (
          <Pill tone="warn" title="Nothing to draw from at the moment; its share goes to the others.">
            dry
          </Pill>
        )}
        {asked === 0 && <Pill tone="plain">paused</Pill>}
        <Button
          kind="ghost"
          small
          onClick={() => onShare(share > 0 ? 0 : 0.1)}
          aria-label={share > 0 ? `Pause ${name}` : `Go on with ${name} at 10 %`}
        >
          {share > 0 ? "Pause" : "Go on"}
        </Button>
        <span className="share-input">
          <input
            className="input mono"
            aria-label={`Share of ${name} in percent`}
            inputMode="decimal"
            value={shown}
            aria-invalid={"problem" in parsed ? true : undefined}
            onChange={(event) => type(event.target.value)}
            onBlur={() => setText(undefined)}
          />
          %
        </span>
      </div>
      <input
        type="range"
        min={0}
        max={100}
        step={0.5}
        value={share * 100}
        style={{ accentColor: color }}
        aria-label={`Share of ${name}`}
        aria-valuetext={percent(share)}
        onChange={(event) => onShare(Number(event.target.value) / 100)}
      />
      <dl className="figures">
        <Figure name="asked" value={percent(asked)} />
        <Figure name="drawn" value={source.seen == null ? "–" : percent(source.seen)} strong />
        {figuresOf(source, loss).map(({ label, value, unit }) => (
          <Figure
            key={label}
            name={label}
            value={unit === "s" ? duration(value) : value.toLocaleString("en-US")}
          />
        ))}
      </dl>
      {moved && (
        <p className="small">
          <span className="muted">will be</span> {percent(share)}
        </p>
      )}
    </li>
  );
}

function Figure({ name, value, strong }: { name: string; value: string; strong?: boolean }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd className={strong ? "strong" : undefined}>{value}</dd>
    </div>
  );
}
