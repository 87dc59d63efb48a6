import { useMemo } from "react";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { brief, whole } from "../ui/numbers";
import type { CurveSource } from "./Chart";
import { join } from "./join";

const ROWS = 200;

interface Props {
  title: string;
  curves: readonly CurveSource[];
  onClose: () => void;
}

/** The newest points of a chart as a table, for reading without seeing the curve, and for taking along as CSV. */
export function PointTable({ title, curves, onClose }: Props) {
  const columns = useMemo(() => {
    const none = new Float64Array(0);
    const points = curves.map((curve) => curve.points());
    // Copies: the table stays as it was when it was opened.
    return join(points.map((series) => ({ x: (series?.x ?? none).slice(), y: (series?.y ?? none).slice() })));
  }, [curves]);
  const [steps, ...values] = columns;
  const newest = Array.from(steps.keys()).slice(-ROWS).reverse();
  const csv = () => {
    const head = ["step", ...curves.map((curve) => curve.name)].join(",");
    const lines = Array.from(steps, (step, row) =>
      [step, ...values.map((column) => column[row] ?? "")].join(","),
    );
    void navigator.clipboard.writeText([head, ...lines].join("\n"));
  };
  return (
    <Dialog
      title={`${title}: the newest ${Math.min(ROWS, steps.length)} of ${whole(steps.length)} points`}
      wide
      onClose={onClose}
    >
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, and the keyboard must reach it */}
      <section className="table-scroll" tabIndex={0} aria-label={`Values of ${title}`}>
        <table className="table">
          <thead>
            <tr>
              <th scope="col">Step</th>
              {curves.map((curve) => (
                <th scope="col" key={curve.name}>
                  {curve.name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {newest.map((row) => (
              <tr key={steps[row]}>
                <th scope="row">{whole(steps[row] ?? 0)}</th>
                {values.map((column, index) => (
                  <td key={curves[index]?.name} className="mono">
                    {column[row] == null ? "–" : brief(column[row])}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      <div className="row end">
        <Button onClick={csv}>Copy all as CSV</Button>
        <Button kind="primary" onClick={onClose}>
          Close
        </Button>
      </div>
    </Dialog>
  );
}
