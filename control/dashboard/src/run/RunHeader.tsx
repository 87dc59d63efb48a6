import { useState } from "react";
import type { CommandRecord, RunDetail } from "../api/types";
import { useCommands, useRun, useSeat } from "../app/context";
import { useCommandSpec, useSend } from "../commands/useSend";
import { Button } from "../ui/Button";
import { Icon, type IconName } from "../ui/Icon";
import { brief, whole } from "../ui/numbers";
import { Pill } from "../ui/Pill";
import { PublishDialog } from "./PublishDialog";
import { StopDialog } from "./StopDialog";
import { statusWords, stepsPerSecond } from "./status";
import "./run.css";

type Asking = "stop" | "publish" | undefined;

export function RunHeader() {
  const run = useRun();
  const [asking, setAsking] = useState<Asking>();
  if (!run) return null;
  const status = statusWords(run);
  const over = run.status === "stopped" || run.status === "finished" || run.status === "crashed";
  const halted = run.status === "paused" || (run.desired === "paused" && !over);
  return (
    <section className="run-header" aria-label={`Run ${run.run}`}>
      <div className="run-title">
        <h1 className="ellipsis">{run.run}</h1>
        <span data-testid="run-status">
          <Pill tone={status.tone} title={run.reason || undefined}>
            {status.word}
          </Pill>
        </span>
        <Wanted run={run} />
      </div>
      <RunFigures run={run} />
      <div className="run-actions">
        {over || run.desired === "stopped" ? (
          <Action name="start_training" icon="play" label="Start" kind="primary" />
        ) : halted ? (
          <Action name="resume_training" icon="play" label="Resume" kind="primary" shortcut="p" />
        ) : (
          <Action name="pause_training" icon="pause" label="Pause" shortcut="p" />
        )}
        <Action name="do_evaluate" icon="evaluate" label="Evaluate" shortcut="e" />
        <Action name="save_checkpoint" icon="save" label="Save" shortcut="s" />
        <Action name="publish_checkpoint" icon="publish" label="Publish" onAsk={() => setAsking("publish")} />
        <Action name="stop_training" icon="stop" label="Stop" kind="danger" onAsk={() => setAsking("stop")} />
      </div>
      {(status.advice || run.reason) && !["running"].includes(run.status) && (
        <p className={`notice ${status.tone}`} role="status">
          {run.reason && <strong>{run.reason}. </strong>}
          {status.advice}
        </p>
      )}
      {asking === "stop" && <StopDialog onClose={() => setAsking(undefined)} />}
      {asking === "publish" && <PublishDialog onClose={() => setAsking(undefined)} />}
    </section>
  );
}

/** What people want of the run, where that is not yet what it does. */
function Wanted({ run }: { run: RunDetail }) {
  if (run.desired === run.status || run.status === "starting") return null;
  if (run.desired === "running" && run.status !== "paused") return null;
  return <Pill tone="calm">to be {run.desired}</Pill>;
}

function RunFigures({ run }: { run: RunDetail }) {
  const { session } = useSeat();
  const seconds = session.metrics.get("step_seconds", run.branch)?.y;
  const rate = run.status === "running" && seconds ? stepsPerSecond(seconds) : undefined;
  const loss = run.metrics?.values.loss;
  return (
    <dl className="run-figures">
      <div>
        <dt>step</dt>
        <dd className="mono" data-testid="step">
          {run.step == null ? "–" : run.step.toLocaleString("en-US")}
          {run.max_steps != null && <span className="muted"> / {whole(run.max_steps)}</span>}
        </dd>
      </div>
      {rate !== undefined && (
        <div>
          <dt>steps/s</dt>
          <dd className="mono">{brief(rate, 3)}</dd>
        </div>
      )}
      <div>
        <dt>loss</dt>
        <dd className="mono">{loss == null ? "–" : brief(loss)}</dd>
      </div>
      <div>
        <dt>branch</dt>
        <dd>{run.branch}</dd>
      </div>
    </dl>
  );
}

interface ActionProps {
  name: string;
  icon: IconName;
  label: string;
  kind?: "primary" | "danger";
  shortcut?: string;
  /** Asks before it sends. */
  onAsk?: () => void;
}

function Action({ name, icon, label, kind, shortcut, onAsk }: ActionProps) {
  const send = useSend();
  const commands = useCommands();
  const { unavailable } = useCommandSpec(name);
  const open = isOpen(commands, name);
  return (
    <Button
      kind={kind ?? "plain"}
      data-action={name}
      unavailable={unavailable ?? (open ? `${label} is on its way; it has no outcome yet.` : undefined)}
      title={shortcut ? `${label} (${shortcut})` : label}
      aria-keyshortcuts={shortcut}
      onClick={onAsk ?? (() => send.mutate({ command: name, arguments: {} }))}
    >
      <Icon name={icon} /> {label}
      {open && <span className="working" aria-hidden="true" />}
    </Button>
  );
}

function isOpen(commands: readonly CommandRecord[], name: string): boolean {
  const newest = commands.find(({ command }) => command === name);
  return newest !== undefined && !newest.outcome;
}
