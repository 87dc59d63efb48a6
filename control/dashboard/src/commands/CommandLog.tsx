import { memo, type RefObject, useState } from "react";
import type { CommandRecord } from "../api/types";
import { useCommands, useRun } from "../app/context";
import { Clock } from "../ui/Ago";
import { Button } from "../ui/Button";
import { CopyButton } from "../ui/CopyButton";
import { brief } from "../ui/numbers";
import { asCli } from "./cli";
import { matches, type StateFilter } from "./filter";
import { StagePill } from "./StagePill";
import { wish } from "./words";

const SHOWN = 100;

export function CommandLog({ search }: { search: RefObject<HTMLInputElement | null> }) {
  const commands = useCommands();
  const run = useRun();
  const [text, setText] = useState("");
  const [state, setState] = useState<StateFilter>("all");
  const [opened, setOpened] = useState<string>();
  const [most, setMost] = useState(SHOWN);
  const found = commands.filter((command) => matches(command, text, state));
  return (
    <>
      <div className="log-tools">
        <input
          ref={search}
          className="input"
          type="search"
          placeholder="Filter commands  ( / )"
          aria-label="Filter commands"
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
        <div className="segmented">
          {(["all", "open", "failed"] as const).map((name) => (
            <Button key={name} small aria-pressed={state === name} onClick={() => setState(name)}>
              {name}
            </Button>
          ))}
        </div>
      </div>
      {found.length === 0 ? (
        <div className="empty">
          <strong>
            {commands.length === 0 ? "Nobody has intervened yet" : "No command fits the filter"}
          </strong>
          {commands.length === 0 && (
            <p>Every command is kept here, with who sent it, why, and what came of it.</p>
          )}
        </div>
      ) : (
        <ul className="log">
          {found.slice(0, most).map((command) => (
            <li key={command.uuid} data-command={command.command}>
              <CommandLine
                command={command}
                step={towards(command, run?.step)}
                open={opened === command.uuid}
                onToggle={setOpened}
              />
            </li>
          ))}
        </ul>
      )}
      {found.length > most && (
        <Button kind="ghost" small onClick={() => setMost(most + SHOWN)}>
          Show older ones
        </Button>
      )}
    </>
  );
}

interface LineProps {
  command: CommandRecord;
  step: number | null;
  open: boolean;
  onToggle: (uuid: string | undefined) => void;
}

/** How far training is on the way to the command's step, and no further: a line that is settled is not drawn again. */
function towards({ takes_effect_at }: CommandRecord, step: number | null | undefined): number | null {
  return takes_effect_at == null ? null : Math.min(step ?? 0, takes_effect_at);
}

const CommandLine = memo(function CommandLine({ command, step, open, onToggle }: LineProps) {
  const args = command.arguments ?? {};
  const words = wish(command.command, args);
  const at = command.takes_effect_at ?? command.step;
  return (
    <>
      <div className="log-line command-line">
        <Clock time={command.received_at} />
        <button
          type="button"
          className="log-what ellipsis"
          aria-expanded={open}
          aria-label={`${words}: details`}
          onClick={() => onToggle(open ? undefined : command.uuid)}
        >
          {words}
        </button>
        <StagePill command={command} step={step} short />
        <span className="muted ellipsis log-who" title={command.author}>
          {command.author}
        </span>
        <span className="muted mono log-step">{at == null ? "" : `step ${brief(at)}`}</span>
        <span className="ellipsis log-why" title={command.reason || command.note}>
          {command.outcome && command.outcome !== "success" ? (
            <span className="problem">{command.reason}</span>
          ) : (
            command.note && <span className="muted">“{command.note}”</span>
          )}
        </span>
        <CopyButton
          text={asCli(command.command, args, command.note)}
          label={`Copy ${words} as a command line`}
        />
      </div>
      {open && <CommandDetails command={command} />}
    </>
  );
});

function CommandDetails({ command }: { command: CommandRecord }) {
  const took = command.final_at == null ? undefined : command.final_at - command.received_at;
  const rows: [string, unknown][] = [
    ["command", command.command],
    ["arguments", command.arguments],
    ["before", command.before],
    ["after", command.after],
    ["branch", command.branch],
    ["taken by", command.actor],
    ["reason", command.reason],
    ["note", command.note],
    ["takes effect at", command.takes_effect_at],
    ["seconds to the outcome", took === undefined ? undefined : Number(took.toPrecision(3))],
    ["uuid", command.uuid],
  ];
  return (
    <dl className="log-details">
      {rows
        .filter(([, value]) => value != null && value !== "")
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd className="mono">{typeof value === "string" ? value : JSON.stringify(value)}</dd>
          </div>
        ))}
    </dl>
  );
}
