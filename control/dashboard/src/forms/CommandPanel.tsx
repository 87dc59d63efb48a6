import { useState } from "react";
import type { ActorCommand } from "../api/types";
import { useRun } from "../app/context";
import { asCli } from "../commands/cli";
import { Receipt } from "../commands/Receipt";
import { useSend } from "../commands/useSend";
import { Button } from "../ui/Button";
import { CopyButton } from "../ui/CopyButton";
import { Dialog } from "../ui/Dialog";
import { NoteField } from "../ui/NoteField";
import { FieldInput } from "./FieldInput";
import { argumentsOf, fieldsOf } from "./fields";
import "./forms.css";

/** These have a knob of their own on the page, or are said by programs only. */
const ELSEWHERE: ReadonlySet<string> = new Set([
  "update_optimizer",
  "update_dataset_runtime_hyperparameters",
  "save_checkpoint",
  "load_checkpoint",
  "start_training",
  "pause_training",
  "resume_training",
  "stop_training",
  "do_evaluate",
  "publish_checkpoint",
  "promote_version",
  "rollback_version",
  "pin_version",
  "release_channel",
  "model_layer_operation",
  "model_layer_parameter_update",
  "set_agents",
  "accept_suggestion",
  "ask_agent",
  "raise_alarm",
]);

/** Every command without a knob of its own, those that a user's package registered above all, as a form. */
export function CommandPanel() {
  const run = useRun();
  const [open, setOpen] = useState<string>();
  if (!run) return null;
  const others = run.commands.filter(({ spec }) => !ELSEWHERE.has(spec.name));
  if (others.length === 0) {
    return (
      <div className="panel">
        <div className="empty">
          <strong>No further commands</strong>
          <p>
            What a package adds with <code>register_command</code> shows here as a form by itself.
          </p>
        </div>
      </div>
    );
  }
  return (
    <div className="panel">
      <ul className="commands" aria-label="Further commands">
        {others.map((entry) => {
          const { name, summary } = entry.spec;
          return (
            <li key={`${entry.actor} ${name}`}>
              <button
                type="button"
                className="command-head"
                aria-expanded={open === name}
                onClick={() => setOpen(open === name ? undefined : name)}
              >
                <strong>{name.replaceAll("_", " ")}</strong>
                <span className="muted small">{summary}</span>
              </button>
              {open === name && <CommandForm entry={entry} />}
            </li>
          );
        })}
      </ul>
    </div>
  );
}

function CommandForm({ entry }: { entry: ActorCommand }) {
  const { name, arguments: schema, destructive } = entry.spec;
  const fields = fieldsOf(schema);
  const [texts, setTexts] = useState<Readonly<Record<string, string>>>({});
  const [note, setNote] = useState("");
  const [asking, setAsking] = useState(false);
  const [tried, setTried] = useState(false);
  const send = useSend();
  const read = argumentsOf(fields, texts);
  const broken = Object.keys(read.problems).length > 0;
  const submit = (dry: boolean) => {
    setTried(true);
    if (broken) return;
    if (destructive && !dry && !asking) return setAsking(true);
    setAsking(false);
    send.mutate({ command: name, arguments: read.arguments, note, dryRun: dry });
  };
  return (
    <form
      className="stack command-form"
      aria-label={name.replaceAll("_", " ")}
      onSubmit={(event) => {
        event.preventDefault();
        submit(false);
      }}
    >
      {fields.map((field) => (
        <FieldInput
          key={field.name}
          field={field}
          text={texts[field.name] ?? ""}
          // An empty field is not called wrong before somebody has tried to send it.
          problem={tried || texts[field.name] ? read.problems[field.name] : undefined}
          onText={(text) => setTexts({ ...texts, [field.name]: text })}
        />
      ))}
      {fields.length === 0 && <p className="muted small">It takes no arguments.</p>}
      <NoteField note={note} onNote={setNote} />
      {!entry.available && (
        <p className="notice warn">{entry.actor} is away: what is sent waits until it is back.</p>
      )}
      <div className="row">
        <Button type="submit" kind={destructive ? "danger" : "primary"}>
          Send
        </Button>
        <Button onClick={() => submit(true)} title="Checked by the one who would do it, and not done">
          Try
        </Button>
        <span className="grow" />
        <CopyButton text={asCli(name, read.arguments, note)} label="Copy as a command line" />
      </div>
      <Receipt command={name} />
      {asking && (
        <Dialog title={`Send ${name.replaceAll("_", " ")}?`} onClose={() => setAsking(false)}>
          <p>{entry.spec.summary}. This cannot be taken back.</p>
          <div className="row end">
            <Button onClick={() => setAsking(false)}>Cancel</Button>
            <Button kind="danger" className="filled" onClick={() => submit(false)}>
              Send it
            </Button>
          </div>
        </Dialog>
      )}
    </form>
  );
}
