import { useState } from "react";
import type { CheckpointInfo, RunDetail } from "../api/types";
import { useRun } from "../app/context";
import { Receipt } from "../commands/Receipt";
import { useCommandSpec } from "../commands/useSend";
import { Ago } from "../ui/Ago";
import { Button } from "../ui/Button";
import { bytes } from "../ui/bytes";
import { Icon } from "../ui/Icon";
import { brief, whole } from "../ui/numbers";
import { branchTree } from "./branches";
import { LoadDialog } from "./LoadDialog";
import { whyInWords } from "./reasons";
import "./checkpoints.css";

const SHOWN = 30;

export function CheckpointPanel() {
  const run = useRun();
  const [loading, setLoading] = useState<CheckpointInfo>();
  const [all, setAll] = useState(false);
  const { unavailable } = useCommandSpec("load_checkpoint");
  if (!run) return null;
  const checkpoints = [...run.checkpoints].sort((one, other) => other.time - one.time);
  const shown = all ? checkpoints : checkpoints.slice(0, SHOWN);
  return (
    <div className="panel">
      <BranchList run={run} />
      <div className="row">
        <h2 className="section-title grow">Checkpoints</h2>
        <span className="muted small">{checkpoints.length}</span>
      </div>
      {checkpoints.length === 0 && (
        <div className="empty">
          <strong>No checkpoint yet</strong>
          <p>
            Save keeps weights, optimizer, positions and mixture; a checkpoint is what branches grow from.
          </p>
        </div>
      )}
      <ul className="checkpoints">
        {shown.map((checkpoint) => (
          <li key={checkpoint.uuid}>
            <div className="grow">
              <div>
                <strong className="mono">{whole(checkpoint.step ?? 0)}</strong>{" "}
                <span className="muted">on {checkpoint.branch}</span>
              </div>
              <div className="muted small">
                <Ago time={checkpoint.time} />
                {checkpoint.bytes != null && <> · {bytes(checkpoint.bytes)}</>}
                {checkpoint.reason && <> · {whyInWords(checkpoint.reason)}</>}
              </div>
            </div>
            <Button
              small
              unavailable={unavailable}
              aria-label={`Load the checkpoint of step ${checkpoint.step ?? 0} on ${checkpoint.branch}`}
              onClick={() => setLoading(checkpoint)}
            >
              <Icon name="branch" size={14} /> Load
            </Button>
          </li>
        ))}
      </ul>
      {checkpoints.length > shown.length && (
        <Button kind="ghost" small onClick={() => setAll(true)}>
          Show all {checkpoints.length}
        </Button>
      )}
      <Receipt command="load_checkpoint" />
      {loading && <LoadDialog checkpoint={loading} onClose={() => setLoading(undefined)} />}
    </div>
  );
}

function BranchList({ run }: { run: RunDetail }) {
  const rows = branchTree(run.branches);
  if (rows.length === 0) return null;
  return (
    <section aria-label="Branches">
      <h2 className="section-title">Branches</h2>
      <ul className="branches">
        {rows.map(({ branch, depth }) => (
          <li
            key={branch.branch}
            style={{ paddingLeft: `${depth * 18}px` }}
            aria-current={branch.branch === run.branch || undefined}
          >
            <span className="branch-mark" aria-hidden="true">
              {depth > 0 ? "└" : ""}
              <span className={branch.branch === run.branch ? "dot on" : "dot"} />
            </span>
            <span className="grow ellipsis">
              {branch.branch}
              {branch.branch === run.branch && <span className="muted small"> in training</span>}
            </span>
            <span className="muted small mono">
              {branch.forked_at != null && <>from {brief(branch.forked_at)} </>}
              {branch.step != null && <>at {whole(branch.step)}</>}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}
