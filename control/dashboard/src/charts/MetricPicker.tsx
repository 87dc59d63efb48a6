import { useState } from "react";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import type { ChartSpec } from "./layout";

interface Props {
  charts: readonly ChartSpec[];
  shown: readonly string[];
  /** null: those that are shown when nobody has chosen. */
  onChange: (shown: readonly string[] | null) => void;
}

export function MetricPicker({ charts, shown, onChange }: Props) {
  const [open, setOpen] = useState(false);
  const [text, setText] = useState("");
  const found = charts.filter(
    ({ title, metrics }) =>
      title.toLowerCase().includes(text.toLowerCase()) ||
      metrics.some((name) => name.includes(text.toLowerCase())),
  );
  const toggle = (id: string, on: boolean) =>
    onChange(on ? [...shown, id] : shown.filter((other) => other !== id));
  const count = charts.filter(({ id }) => shown.includes(id)).length;
  return (
    <>
      <Button small onClick={() => setOpen(true)}>
        Charts {count} of {charts.length}
      </Button>
      {open && (
        <Dialog title="Charts" onClose={() => setOpen(false)}>
          <input
            className="input"
            type="search"
            placeholder="Find a metric"
            aria-label="Find a metric"
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
          <ul className="picker">
            {found.map(({ id, title, metrics }) => (
              <li key={id}>
                <label className="row">
                  <input
                    type="checkbox"
                    checked={shown.includes(id)}
                    onChange={(event) => toggle(id, event.target.checked)}
                  />
                  <span className="grow">{title}</span>
                  <code className="muted ellipsis">
                    {metrics.length > 1 ? `${metrics.length} curves` : metrics[0]}
                  </code>
                </label>
              </li>
            ))}
          </ul>
          <div className="row end">
            <Button kind="ghost" onClick={() => onChange(charts.map(({ id }) => id))}>
              All
            </Button>
            <Button kind="ghost" onClick={() => onChange(null)}>
              The usual ones
            </Button>
            <Button kind="primary" onClick={() => setOpen(false)}>
              Done
            </Button>
          </div>
        </Dialog>
      )}
    </>
  );
}
