import { useId, useState } from "react";
import type { CheckpointInfo } from "../api/types";
import { useRun } from "../app/context";
import { asCli } from "../commands/cli";
import { accepts } from "../commands/schema";
import { useCommandSpec, useSend } from "../commands/useSend";
import { Button } from "../ui/Button";
import { CopyButton } from "../ui/CopyButton";
import { Dialog } from "../ui/Dialog";
import { NoteField } from "../ui/NoteField";
import { whole } from "../ui/numbers";
import { nameProblem, suggestName } from "./branches";

/** Goes back to a checkpoint: always as a new branch, so that nothing is overwritten. */
export function LoadDialog({ checkpoint, onClose }: { checkpoint: CheckpointInfo; onClose: () => void }) {
  const run = useRun();
  const taken = new Set(run?.branches.map(({ branch }) => branch) ?? []);
  const [name, setName] = useState(() => suggestName(checkpoint, taken));
  const [note, setNote] = useState("");
  const [saveFirst, setSaveFirst] = useState(true);
  const send = useSend();
  const id = useId();
  const problem = nameProblem(name, taken);
  const { entry } = useCommandSpec("load_checkpoint");
  const offersSaving = accepts(entry?.spec.arguments ?? {}, "save_first");
  const args = {
    uuid: checkpoint.uuid,
    branch_name: name,
    ...(offersSaving && !saveFirst ? { save_first: false } : {}),
  };
  const submit = () =>
    send.mutate({ command: "load_checkpoint", arguments: args, note }, { onSuccess: onClose });
  return (
    <Dialog title={`Go on from step ${whole(checkpoint.step ?? 0)}`} onClose={onClose}>
      <p>
        Weights, optimizer, mixture and data positions go back to this checkpoint, and training goes on from
        there as a new branch. {run?.branch} keeps its points and checkpoints; what it learned after its
        newest checkpoint is lost.
      </p>
      <form
        className="stack"
        onSubmit={(event) => {
          event.preventDefault();
          if (!problem) submit();
        }}
      >
        <div className="field">
          <label htmlFor={`${id}-name`}>Name of the new branch</label>
          <input
            id={`${id}-name`}
            className="input mono"
            value={name}
            spellCheck={false}
            aria-invalid={problem ? true : undefined}
            aria-describedby={`${id}-problem`}
            onChange={(event) => setName(event.target.value)}
          />
          <span id={`${id}-problem`} className="problem">
            {problem}
          </span>
        </div>
        <NoteField note={note} onNote={setNote} />
        {offersSaving && (
          <label className="row">
            <input
              type="checkbox"
              checked={saveFirst}
              onChange={(event) => setSaveFirst(event.target.checked)}
            />
            Save where training is now first
          </label>
        )}
        <div className="row end">
          <CopyButton text={asCli("load_checkpoint", args, note)} label="Copy as a command line" />
          <span className="grow" />
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit" unavailable={problem}>
            Load as a new branch
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
