import { useEffect, useId, useState } from "react";
import type { MixtureBody } from "../api/types";
import { useCommands, useObservable, useRun } from "../app/context";
import { asCli } from "../commands/cli";
import { Receipt } from "../commands/Receipt";
import { rememberSent, sent } from "../commands/sent";
import { useCommandSpec, useSend } from "../commands/useSend";
import { wish } from "../commands/words";
import { Button } from "../ui/Button";
import { CopyButton } from "../ui/CopyButton";
import { Icon } from "../ui/Icon";
import { NoteField } from "../ui/NoteField";
import { MixtureBar } from "./MixtureBar";
import { SourceRow } from "./SourceRow";
import { sameShares, sharesOf, toWeights, type Weights, withShare } from "./shares";
import { COMMAND, undoOf } from "./undo";
import "./mixture.css";

export function MixturePanel() {
  const run = useRun();
  const mixture = run?.mixture;
  if (!run) return null;
  if (!mixture || Object.keys(mixture.sources).length === 0) {
    return (
      <div className="empty">
        <strong>No mixture yet</strong>
        <p>
          A trainer over <code>make_interactive_dataset</code> with named sources reports its mixture with its
          first steps; then every source has its slider here.
        </p>
      </div>
    );
  }
  return <MixtureForm mixture={mixture} losses={run.metrics?.values ?? {}} />;
}

interface FormProps {
  mixture: MixtureBody;
  /** The newest numbers of the run, those of a source under `loss/` and its name. */
  losses: Readonly<Record<string, number | null>>;
}

function MixtureForm({ mixture, losses }: FormProps) {
  const asked = sharesOf(weightsOf(mixture));
  // What is being set up here, and the version of the mixture that it began from.
  const [draft, setDraft] = useState<{ shares: Weights; version: number }>();
  const [note, setNote] = useState("");
  const send = useSend();
  const { unavailable } = useCommandSpec(COMMAND);
  const shares = draft?.shares ?? asked;
  const changed = draft !== undefined && !sameShares(shares, asked);
  const overtaken = changed && draft.version !== mixture.version;
  const weights = toWeights(shares);
  const settled = draft !== undefined && !changed;
  useEffect(() => {
    if (settled) setDraft(undefined); // it is in force: whatever comes next is set from there
  }, [settled]);

  const set = (source: string, share: number) =>
    setDraft({ shares: withShare(shares, source, share), version: draft?.version ?? mixture.version });
  const reset = () => setDraft(undefined);
  const submit = () =>
    send.mutate(
      { command: COMMAND, arguments: { weights }, note },
      {
        onSuccess: ({ uuid }) => {
          rememberSent(uuid);
          setNote("");
        },
      },
    );

  return (
    <form
      className="panel"
      onSubmit={(event) => {
        event.preventDefault();
        if (changed && !unavailable) submit();
      }}
    >
      <MixtureBar shares={shares} mixture={mixture} />
      <ul className="sources">
        {Object.entries(mixture.sources).map(([name, source], index) => (
          <SourceRow
            key={name}
            name={name}
            index={index}
            source={source}
            loss={losses[`loss/${name}`]}
            share={shares[name] ?? 0}
            asked={asked[name] ?? 0}
            onShare={(share) => set(name, share)}
          />
        ))}
      </ul>
      {overtaken && (
        <p className="notice warn" role="status">
          The mixture was changed by somebody else while you were setting yours. Sending replaces theirs.
        </p>
      )}
      <NoteField note={note} onNote={setNote} placeholder="Users open the browser a lot today" />
      <div className="row">
        <Button
          type="submit"
          kind="primary"
          unavailable={
            unavailable ?? (changed ? undefined : "Move a slider first: this is the mixture in force.")
          }
        >
          Send mixture
        </Button>
        <Button kind="ghost" onClick={reset} unavailable={changed ? undefined : "Nothing to take back."}>
          Reset
        </Button>
        <span className="grow" />
        <CopyButton text={asCli(COMMAND, { weights }, note)} label="Copy as a command line" />
      </div>
      <Receipt command={COMMAND} />
      <UndoRow inForce={weightsOf(mixture)} onUndo={reset} />
    </form>
  );
}

/** Takes back the mixture that was sent from this tab, by sending what was in force before it. */
function UndoRow({ inForce, onUndo }: { inForce: Weights; onUndo: () => void }) {
  const commands = useCommands();
  const mine = useObservable(sent);
  const send = useSend();
  const { unavailable } = useCommandSpec(COMMAND);
  const described = useId();
  const undo = undoOf(commands, mine, inForce);
  const restored = undo.restores && wish(COMMAND, { weights: undo.restores });
  const take = (restores: Weights) =>
    send.mutate(
      { command: COMMAND, arguments: { weights: restores }, note: "undo" },
      {
        onSuccess: ({ uuid }) => {
          rememberSent(uuid);
          onUndo();
        },
      },
    );
  return (
    <div className="row undo">
      <Button
        kind="ghost"
        small
        unavailable={unavailable ?? undo.unavailable}
        aria-describedby={described}
        onClick={() => undo.restores && take(undo.restores)}
      >
        <Icon name="undo" size={14} /> Undo
      </Button>
      <span id={described} className="muted small grow" role={undo.overtaken ? "status" : undefined}>
        {restored ? `back to ${restored}` : undo.overtaken ? undo.unavailable : ""}
      </span>
    </div>
  );
}

function weightsOf(mixture: MixtureBody): Weights {
  return Object.fromEntries(Object.entries(mixture.sources).map(([name, source]) => [name, source.weight]));
}
