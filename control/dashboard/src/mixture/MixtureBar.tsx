import type { MixtureBody } from "../api/types";
import { seriesColor } from "../charts/colors";
import { percentages, sharesOf, type Weights } from "./shares";

/** The mixture as one bar, what is asked for above what was lately drawn. */
export function MixtureBar({ shares, mixture }: { shares: Weights; mixture: MixtureBody }) {
  const percent = percentages(shares);
  const total = Object.values(percent).reduce((sum, value) => sum + value, 0);
  const seen = Object.fromEntries(
    Object.entries(mixture.sources).map(([name, { seen }]) => [name, seen ?? 0]),
  );
  const drawn = Object.values(seen).some((share) => share > 0);
  return (
    <div className="mixture-bar" aria-hidden="true">
      <div className="row">
        <span className="grow section-title">Shares</span>
        <span className="muted mono">sum {total.toFixed(1)} %</span>
      </div>
      <Bar shares={percentages(shares)} label="asked" />
      {drawn && <Bar shares={percentages(sharesOf(seen))} label="drawn" thin />}
    </div>
  );
}

function Bar({ shares, label, thin }: { shares: Weights; label: string; thin?: boolean }) {
  return (
    <div className={thin ? "bar thin" : "bar"} title={label}>
      {Object.entries(shares).map(([name, percent], index) => (
        <span key={name} style={{ width: `${percent}%`, background: `var(${seriesColor(index)})` }} />
      ))}
    </div>
  );
}
