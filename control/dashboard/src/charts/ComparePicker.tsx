import { useState } from "react";
import type { RunSummary } from "../api/types";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { whole } from "../ui/numbers";

/** Curves of more runs than this cannot be told apart. */
export const MOST_RUNS = 4;

interface Props {
  runs: readonly RunSummary[];
  chosen: readonly string[];
  onChange: (chosen: readonly string[]) => void;
}

/** Which other runs are drawn on the same charts. */
export function ComparePicker({ runs, chosen, onChange }: Props) {
  const [open, setOpen] = useState(false);
  if (runs.length === 0) return null;
  const count = runs.filter(({ run }) => chosen.includes(run)).length;
  return (
    <>
      <Button small aria-pressed={count > 0} onClick={() => setOpen(true)}>
        {count > 0 ? `Compared with ${count}` : "Compare"}
      </Button>
      {open && (
        <Dialog title="Compare with other runs" onClose={() => setOpen(false)}>
          <ul className="picker">
            {runs.map(({ run, status, step, branch }) => {
              const on = chosen.includes(run);
              return (
                <li key={run}>
                  <label className="row">
                    <input
                      type="checkbox"
                      checked={on}
                      disabled={!on && count >= MOST_RUNS}
                      onChange={() => onChange(on ? chosen.filter((name) => name !== run) : [...chosen, run])}
                    />
                    <span className="grow ellipsis">{run}</span>
                    <span className="muted small">
                      {status} · {branch} · step {step == null ? "–" : whole(step)}
                    </span>
                  </label>
                </li>
              );
            })}
          </ul>
          <p className="muted small">
            Each is drawn on its present branch, by step, in the charts of one metric; {MOST_RUNS} at most.
          </p>
          <div className="row end">
            <Button kind="ghost" onClick={() => onChange([])}>
              None
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
