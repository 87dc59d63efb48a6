import { useState } from "react";
import { useCommands, useRun } from "../app/context";
import { asCli } from "../commands/cli";
import { Receipt } from "../commands/Receipt";
import { accepts, argumentNames } from "../commands/schema";
import { useCommandSpec, useSend } from "../commands/useSend";
import { plain, wish } from "../commands/words";
import { Button } from "../ui/Button";
import { CopyButton } from "../ui/CopyButton";
import { Icon } from "../ui/Icon";
import { NoteField } from "../ui/NoteField";
import { NumberField } from "../ui/NumberField";
import { boundsFor, changeOf, type Draft, type RateMode, readPair, undoTexts } from "./change";
import "./optimizer.css";

const COMMAND = "update_optimizer";
const EMPTY: Draft = { mode: "value", texts: {} };
const USUAL = ["lr", "weight_decay", "momentum", "betas", "eps", "max_grad_norm"];
const MODES: Readonly<Record<RateMode, { button: string; label: string; example: string; hint: string }>> = {
  value: {
    button: "set to",
    label: "New learning rate",
    example: "1e-5",
    hint: "That of the next step; the schedule goes on from there.",
  },
  scale: {
    button: "multiply by",
    label: "Factor",
    example: "0.5",
    hint: "On what it is now; the schedule goes on.",
  },
  peak: {
    button: "set peak",
    label: "New peak",
    example: "1e-4",
    hint: "The top of the schedule, such as after warm-up.",
  },
};
const LABELS: Readonly<Record<string, string>> = {
  weight_decay: "Weight decay",
  momentum: "Momentum",
  betas: "Betas",
  eps: "Epsilon",
  max_grad_norm: "Clip the gradient's norm at",
};

export function OptimizerPanel() {
  const run = useRun();
  const commands = useCommands();
  const [draft, setDraft] = useState(EMPTY);
  const [note, setNote] = useState("");
  const send = useSend();
  const { entry, unavailable } = useCommandSpec(COMMAND);
  if (!run) return null;

  const schema = entry?.spec.arguments ?? {};
  const effective: Readonly<Record<string, unknown>> = run.optimizer;
  const names = parametersOf(schema, effective);
  const change = changeOf(draft, schema);
  const count = Object.keys(change.arguments).length;
  const type = (name: string, text: string) =>
    setDraft({ ...draft, texts: { ...draft.texts, [name]: text } });
  const last = commands.find(({ command, outcome }) => command === COMMAND && outcome === "success");
  const undo = last ? undoTexts(last.arguments ?? {}, last.before) : {};
  const submit = () =>
    send.mutate(
      { command: COMMAND, arguments: change.arguments, note },
      {
        onSuccess: () => {
          setDraft({ ...EMPTY, mode: draft.mode });
          setNote("");
        },
      },
    );

  return (
    <form
      className="panel"
      onSubmit={(event) => {
        event.preventDefault();
        if (count > 0 && !change.broken && !unavailable) submit();
      }}
    >
      <fieldset className="rate">
        <legend>Learning rate</legend>
        <div className="row">
          <span className="effective grow">
            <span className="muted">in force</span>{" "}
            <strong className="mono">{plain(effective.lr ?? "–")}</strong>
          </span>
          <div className="segmented">
            {modesOf(schema).map((mode) => (
              <Button
                key={mode}
                small
                aria-pressed={draft.mode === mode}
                onClick={() => setDraft({ ...draft, mode })}
              >
                {MODES[mode].button}
              </Button>
            ))}
          </div>
        </div>
        <NumberField
          label={MODES[draft.mode].label}
          text={draft.texts.lr ?? ""}
          onText={(text) => type("lr", text)}
          bounds={boundsFor("lr", draft.mode, schema)}
          placeholder={MODES[draft.mode].example}
          hint={MODES[draft.mode].hint}
          optional
        />
      </fieldset>
      <div className="parameters">
        {names
          .filter((name) => name !== "lr")
          .map((name) => (
            <Parameter
              key={name}
              name={name}
              effective={effective[name]}
              text={draft.texts[name] ?? ""}
              bounds={boundsFor(name, draft.mode, schema)}
              onText={(text) => type(name, text)}
            />
          ))}
      </div>
      <NoteField note={note} onNote={setNote} placeholder="The gradient's norm is rising" />
      <div className="row">
        <Button
          type="submit"
          kind="primary"
          unavailable={unavailable ?? reasonNotToSend(count, change.broken)}
        >
          {count > 0 && !change.broken ? `Send ${wish(COMMAND, change.arguments)}` : "Send"}
        </Button>
        <Button
          kind="ghost"
          unavailable={Object.keys(undo).length > 0 ? undefined : "No change of this run to take back."}
          onClick={() => setDraft({ mode: "value", texts: undo })}
        >
          <Icon name="undo" size={14} /> Back to before
        </Button>
        <span className="grow" />
        {count > 0 && (
          <CopyButton text={asCli(COMMAND, change.arguments, note)} label="Copy as a command line" />
        )}
      </div>
      <Receipt command={COMMAND} />
    </form>
  );
}

interface ParameterProps {
  name: string;
  effective: unknown;
  text: string;
  bounds: ReturnType<typeof boundsFor>;
  onText: (text: string) => void;
}

function Parameter({ name, effective, text, bounds, onText }: ParameterProps) {
  const label = LABELS[name] ?? name.replaceAll("_", " ");
  const shown = effective === undefined || effective === null ? "–" : listed(effective);
  if (name !== "betas") {
    return (
      <NumberField
        label={label}
        text={text}
        onText={onText}
        bounds={bounds}
        placeholder={shown}
        hint={`in force: ${shown}`}
        optional
      />
    );
  }
  const broken = text.trim() !== "" && !readPair(text);
  return (
    <div className="field">
      <label htmlFor="betas">{label}</label>
      <input
        id="betas"
        className="input mono"
        value={text}
        placeholder={shown}
        aria-invalid={broken ? true : undefined}
        aria-describedby="betas-note"
        onChange={(event) => onText(event.target.value)}
      />
      <span id="betas-note" className={broken ? "problem" : "hint"}>
        {broken ? "Two numbers from 0 up to, not including, 1, like 0.9, 0.999." : `in force: ${shown}`}
      </span>
    </div>
  );
}

function listed(value: unknown): string {
  return Array.isArray(value) ? value.map(plain).join(", ") : plain(value);
}

/** Those that the trainer takes; before it said so, those whose values are known. */
function parametersOf(
  schema: Readonly<Record<string, unknown>>,
  effective: Readonly<Record<string, unknown>>,
): string[] {
  const told = argumentNames(schema);
  const known = told.length > 0 ? told : USUAL.filter((name) => name in effective);
  return [...known].sort((one, other) => place(one) - place(other));
}

function place(name: string): number {
  const at = USUAL.indexOf(name);
  return at < 0 ? USUAL.length : at;
}

function reasonNotToSend(count: number, broken: boolean): string | undefined {
  if (broken) return "One of the values cannot be sent as it is; its field says why.";
  return count > 0 ? undefined : "Type a new value first.";
}

function modesOf(schema: Readonly<Record<string, unknown>>): RateMode[] {
  return accepts(schema, "lr", "peak") ? ["value", "scale", "peak"] : ["value", "scale"];
}
