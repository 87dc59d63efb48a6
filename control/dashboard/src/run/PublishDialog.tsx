import { useId, useState } from "react";
import { useRun, useVersions } from "../app/context";
import { useSend } from "../commands/useSend";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { NoteField } from "../ui/NoteField";
import { whole } from "../ui/numbers";

/** Publishes the weights of now; the channel is the publisher's own choice unless one is named. */
export function PublishDialog({ onClose }: { onClose: () => void }) {
  const run = useRun();
  const channels = useVersions()?.channels ?? [];
  const send = useSend();
  const [channel, setChannel] = useState("");
  const [note, setNote] = useState("");
  const id = useId();
  const names = [...new Set([...channels.map((pointer) => pointer.channel), "candidate", "stable"])];
  const submit = () => {
    const args = channel ? { channel } : {};
    send.mutate({ command: "publish_checkpoint", arguments: args, note }, { onSuccess: onClose });
  };
  return (
    <Dialog title="Publish a version" onClose={onClose}>
      <p>
        The weights of step {run?.step == null ? "now" : whole(run.step)} on branch {run?.branch} become a
        version that servers can load.
      </p>
      <div className="field">
        <label htmlFor={`${id}-channel`}>Channel</label>
        <select
          id={`${id}-channel`}
          className="input"
          value={channel}
          onChange={(event) => setChannel(event.target.value)}
        >
          <option value="">the usual one</option>
          {names.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </div>
      <NoteField note={note} onNote={setNote} />
      <div className="row end">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" onClick={submit}>
          Publish
        </Button>
      </div>
    </Dialog>
  );
}
