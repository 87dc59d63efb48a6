import { useCommands, useRun } from "../app/context";
import { Clock } from "../ui/Ago";
import { StagePill } from "./StagePill";
import { wish } from "./words";

/** The newest command of a kind, followed from its sending to the step at which it took hold. */
export function Receipt({ command: name }: { command: string }) {
  const commands = useCommands();
  const run = useRun();
  const command = commands.find((entry) => entry.command === name);
  if (!command) return null;
  return (
    <div className="receipt" role="status">
      <div className="row">
        <StagePill command={command} step={run?.step} />
        <span className="grow ellipsis" title={wish(name, command.arguments ?? {})}>
          {wish(name, command.arguments ?? {})}
        </span>
      </div>
      <div className="muted small">
        <Clock time={command.received_at} /> by {command.author}
        {command.note && <>: “{command.note}”</>}
      </div>
      {command.outcome && command.outcome !== "success" && <p className="problem">{command.reason}</p>}
    </div>
  );
}
