import { useId, useState } from "react";
import { useCommands, useRun } from "../app/context";
import { asCli } from "../commands/cli";
import { Receipt } from "../commands/Receipt";
import { useCommandSpec, useSend } from "../commands/useSend";
import { wish } from "../commands/words";
import { Ago } from "../ui/Ago";
import { Button } from "../ui/Button";
import { CopyButton } from "../ui/CopyButton";
import { NoteField } from "../ui/NoteField";
import {
  changesOf,
  commandChoices,
  type Draft,
  FILE,
  type NumberLimit,
  numberLimits,
  problemOf,
  type Ranges,
  rangesOf,
  readRanges,
} from "./limits";
import type { Agent, Chosen } from "./read";

const COMMAND = "set_agents";
const UNTOUCHED: Draft = { texts: {} };

/** Everything that an agent may do, to be set; what is left alone stays as it is. */
export function LimitsForm({ agent }: { agent: Agent }) {
  const run = useRun();
  const send = useSend();
  const { entry, unavailable } = useCommandSpec(COMMAND);
  const [draft, setDraft] = useState<Draft>(UNTOUCHED);
  const [note, setNote] = useState("");
  const schema = entry?.spec.arguments ?? {};
  const numbers = numberLimits(schema, agent);
  const { changes, broken } = changesOf(numbers, draft);
  const touched = Object.keys(changes).length > 0;
  const args = { agents: { [agent.name]: changes } };
  const sources = Object.keys(run?.mixture?.sources ?? {});
  const allowed = listOf(agent.limits.commands);
  const taken = (run?.commands ?? []).map(({ spec }) => spec.name);

  const type = (name: string, text: string) =>
    setDraft({ ...draft, texts: { ...draft.texts, [name]: text } });
  const submit = () =>
    send.mutate(
      { command: COMMAND, arguments: args, note },
      {
        onSuccess: () => {
          setDraft(UNTOUCHED);
          setNote("");
        },
      },
    );

  return (
    <form
      className="stack limits"
      aria-label={`Limits of ${agent.name}`}
      onSubmit={(event) => {
        event.preventDefault();
        if (touched && !broken && !unavailable) submit();
      }}
    >
      <p className="muted small">
        What is set here holds at once and over restarts, whatever the settings file says, until it is set
        anew or handed back to the file. <span className="mono">none</span> lifts a limit.
      </p>
      <div className="parameters">
        {numbers.map((limit) => (
          <LimitField
            key={limit.name}
            limit={limit}
            chosen={agent.chosen[limit.name]}
            text={draft.texts[limit.name] ?? ""}
            onText={(text) => type(limit.name, text)}
          />
        ))}
      </div>
      <ShareRanges
        inForce={rangesOf(agent.limits.shares, sources)}
        draft={draft.shares}
        chosen={agent.chosen.shares}
        onDraft={(shares) => setDraft({ ...draft, shares })}
      />
      <Commands
        choices={commandChoices(schema, taken, allowed)}
        inForce={allowed}
        draft={draft.commands}
        chosen={agent.chosen.commands}
        onDraft={(commands) => setDraft({ ...draft, commands })}
      />
      <NoteField note={note} onNote={setNote} placeholder="It halved the rate three times tonight" />
      <div className="row">
        <Button
          type="submit"
          kind="primary"
          unavailable={unavailable ?? reasonNotToSend(touched, broken)}
          title={touched ? wish(COMMAND, args) : undefined}
        >
          Set limits of {agent.name}
        </Button>
        <Button
          kind="ghost"
          onClick={() => setDraft(UNTOUCHED)}
          unavailable={touched || broken ? undefined : "Nothing to take back."}
        >
          Reset
        </Button>
        <span className="grow" />
        {touched && !broken && (
          <CopyButton text={asCli(COMMAND, args, note)} label="Copy as a command line" />
        )}
      </div>
      <LimitsReceipt name={agent.name} />
    </form>
  );
}

/** What became of the newest command of all to the agents, where it was about this one. */
function LimitsReceipt({ name }: { name: string }) {
  const newest = useCommands().find(({ command }) => command === COMMAND);
  const about = newest?.arguments?.agents;
  const mine = typeof about === "object" && about !== null && name in about;
  return mine ? <Receipt command={COMMAND} /> : null;
}

interface FieldProps {
  limit: NumberLimit;
  chosen: Chosen | undefined;
  text: string;
  onText: (text: string) => void;
}

function LimitField({ limit, chosen, text, onText }: FieldProps) {
  const id = useId();
  const problem = problemOf(limit, text);
  return (
    <div className="field">
      <label htmlFor={id}>{limit.label}</label>
      <input
        id={id}
        className="input mono"
        autoComplete="off"
        spellCheck={false}
        value={text}
        placeholder={limit.inForce}
        aria-invalid={problem ? true : undefined}
        aria-describedby={`${id}-note`}
        onChange={(event) => onText(event.target.value)}
      />
      <span id={`${id}-note`} className={problem ? "problem" : "hint"}>
        {problem ?? `in force: ${limit.inForce}`}
      </span>
      {chosen && (
        <SetBy chosen={chosen} filed={limit.filed} label={limit.label} onFile={() => onText(FILE)} />
      )}
    </div>
  );
}

interface SetByProps {
  chosen: Chosen;
  filed?: string | undefined;
  label: string;
  onFile: () => void;
}

/** Who set it over the file, and the way back. */
function SetBy({ chosen, filed, label, onFile }: SetByProps) {
  return (
    <span className="set-by small">
      <span className="muted">
        set by {chosen.author} <Ago time={chosen.time} />
        {filed !== undefined && `; the file says ${filed}`}
      </span>
      <button type="button" className="link" onClick={onFile} aria-label={`${label}: as in the file`}>
        as in the file
      </button>
    </span>
  );
}

interface RangesProps {
  inForce: Ranges;
  draft: Draft["shares"];
  chosen: Chosen | undefined;
  onDraft: (shares: Draft["shares"]) => void;
}

function ShareRanges({ inForce, draft, chosen, onDraft }: RangesProps) {
  const shown = draft === FILE || draft === undefined ? inForce : draft;
  const described = useId();
  const read = readRanges(shown);
  const set = (source: string, which: "least" | "most", text: string) => {
    const range = shown[source] ?? { least: "", most: "" };
    onDraft({ ...shown, [source]: { ...range, [which]: text } });
  };
  if (Object.keys(inForce).length === 0) return null;
  return (
    <fieldset className="group" aria-describedby={described}>
      <legend>Shares, in %</legend>
      <ul className="ranges">
        {Object.entries(shown).map(([source, { least, most }]) => (
          <li key={source} className="row">
            <span className="grow ellipsis">{source}</span>
            <input
              className="input mono"
              aria-label={`Least share of ${source} in percent`}
              value={least}
              placeholder="0"
              onChange={(event) => set(source, "least", event.target.value)}
            />
            <span className="muted small">to</span>
            <input
              className="input mono"
              aria-label={`Largest share of ${source} in percent`}
              value={most}
              placeholder="100"
              onChange={(event) => set(source, "most", event.target.value)}
            />
          </li>
        ))}
      </ul>
      <span id={described} className={"problem" in read ? "problem" : "muted small"}>
        {"problem" in read ? read.problem : draft === FILE ? "To be as in the file." : "Empty: any share."}
      </span>
      {chosen && <SetBy chosen={chosen} label="Shares" onFile={() => onDraft(FILE)} />}
    </fieldset>
  );
}

interface CommandsProps {
  choices: readonly string[];
  inForce: readonly string[];
  draft: Draft["commands"];
  chosen: Chosen | undefined;
  onDraft: (commands: Draft["commands"]) => void;
}

function Commands({ choices, inForce, draft, chosen, onDraft }: CommandsProps) {
  const ticked = draft === FILE || draft === undefined ? inForce : draft;
  const tick = (name: string, on: boolean) => {
    const next = choices.filter((each) => (each === name ? on : ticked.includes(each)));
    const same = next.length === inForce.length && next.every((each) => inForce.includes(each));
    onDraft(same ? undefined : next);
  };
  return (
    <fieldset className="group">
      <legend>Commands that it may send</legend>
      <ul className="allowed">
        {choices.map((name) => (
          <li key={name}>
            <label>
              <input
                type="checkbox"
                checked={ticked.includes(name)}
                onChange={(event) => tick(name, event.target.checked)}
              />{" "}
              {name.replaceAll("_", " ")}
            </label>
          </li>
        ))}
      </ul>
      {draft === FILE && <span className="muted small">To be as in the file.</span>}
      {chosen && <SetBy chosen={chosen} label="Commands" onFile={() => onDraft(FILE)} />}
    </fieldset>
  );
}

function listOf(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((each) => typeof each === "string") : [];
}

function reasonNotToSend(touched: boolean, broken: boolean): string | undefined {
  if (broken) return "One of the values cannot be sent as it is; its field says why.";
  return touched ? undefined : "Change a limit first: these are the ones in force.";
}
