import { useId, useState } from "react";
import { useCommands, useRun } from "../app/context";
import { useCommandSpec, useSend } from "../commands/useSend";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { brief, whole } from "../ui/numbers";

/**
 * Asks before it stops. With "save first", stopping waits for the checkpoint to be saved: a stop after a failed save
 * needs a second yes.
 */
export function StopDialog({ onClose }: { onClose: () => void }) {
  const run = useRun();
  const commands = useCommands();
  const send = useSend();
  const { unavailable: cannotSave } = useCommandSpec("save_checkpoint");
  const [saveFirst, setSaveFirst] = useState(!cannotSave);
  const [saving, setSaving] = useState<string>();
  const checkbox = useId();
  const save = commands.find(({ uuid }) => uuid === saving);
  const newest = run?.checkpoints.reduce((step, checkpoint) => Math.max(step, checkpoint.step ?? 0), 0) ?? 0;

  const stop = () => send.mutate({ command: "stop_training", arguments: {} }, { onSuccess: onClose });
  const begin = () => {
    if (!saveFirst) return stop();
    return send.mutate(
      { command: "save_checkpoint", arguments: {} },
      { onSuccess: ({ uuid }) => setSaving(uuid) },
    );
  };
  const saved = save?.outcome === "success";
  const failed = save?.outcome && !saved;

  return (
    <Dialog title={`Stop ${run?.run ?? "training"}?`} onClose={onClose}>
      <p>
        This is the one command that ends training. The run stays stopped until somebody starts it; serving
        goes on with the version that it has. The newest checkpoint is of step {brief(newest)}
        {run?.step != null && run.step > newest && <>: {whole(run.step - newest)} steps would be lost</>}.
      </p>
      <label className="row" htmlFor={checkbox}>
        <input
          id={checkbox}
          type="checkbox"
          checked={saveFirst}
          disabled={Boolean(cannotSave) || saving !== undefined}
          onChange={(event) => setSaveFirst(event.target.checked)}
        />
        Save a checkpoint first
      </label>
      {cannotSave && <p className="hint muted">{cannotSave}</p>}
      <p role="status">
        {saving && !save?.outcome && "Saving …"}
        {saved && `Saved at step ${whole(save.step ?? 0)}.`}
        {failed && (
          <span className="problem">
            Saving {save.outcome}: {save.reason}
          </span>
        )}
      </p>
      <div className="row end">
        <Button onClick={onClose}>Keep training</Button>
        {saving === undefined ? (
          <Button kind="danger" className="filled" onClick={begin}>
            {saveFirst ? "Save, then stop" : "Stop without saving"}
          </Button>
        ) : (
          <Button
            kind="danger"
            className="filled"
            onClick={stop}
            unavailable={save?.outcome ? undefined : "Waiting for the checkpoint."}
          >
            {failed ? "Stop all the same" : "Stop now"}
          </Button>
        )}
      </div>
    </Dialog>
  );
}
