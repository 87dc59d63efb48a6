import { useId, useState } from "react";
import type { ChannelInfo } from "../api/types";
import { asCli } from "../commands/cli";
import { useSend } from "../commands/useSend";
import { Button } from "../ui/Button";
import { CopyButton } from "../ui/CopyButton";
import { Dialog } from "../ui/Dialog";

export type Move = { kind: "promote"; version: number } | { kind: "rollback"; channel: string };

/** Asks before a channel is moved, for that changes what users are answered with. */
export function MoveDialog({
  move,
  channels,
  onClose,
}: {
  move: Move;
  channels: readonly ChannelInfo[];
  onClose: () => void;
}) {
  const [channel, setChannel] = useState(move.kind === "rollback" ? move.channel : "stable");
  const [note, setNote] = useState("");
  const send = useSend();
  const id = useId();
  const names = [...new Set(["stable", ...channels.map((pointer) => pointer.channel)])];
  const command = move.kind === "promote" ? "promote_version" : "rollback_version";
  const args = move.kind === "promote" ? { channel, version: move.version } : { channel };
  const submit = () => send.mutate({ command, arguments: args, note }, { onSuccess: onClose });
  return (
    <Dialog
      title={move.kind === "promote" ? `Promote v${move.version}` : `Roll ${channel} back`}
      onClose={onClose}
    >
      {move.kind === "promote" ? (
        <div className="field">
          <label htmlFor={`${id}-channel`}>Channel</label>
          <select
            id={`${id}-channel`}
            className="input"
            value={channel}
            onChange={(event) => setChannel(event.target.value)}
          >
            {names.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
          <span className="hint">
            Every server that follows this channel takes the version with its next look.
          </span>
        </div>
      ) : (
        <p>
          {channel} goes back to the version before and is held there: new versions do not move it until
          somebody releases it.
        </p>
      )}
      <div className="field">
        <label htmlFor={`${id}-note`}>
          Why <span className="muted">(kept in the record)</span>
        </label>
        <input
          id={`${id}-note`}
          className="input"
          value={note}
          onChange={(event) => setNote(event.target.value)}
        />
      </div>
      <div className="row end">
        <CopyButton text={asCli(command, args, note)} label="Copy as a command line" />
        <span className="grow" />
        <Button onClick={onClose}>Cancel</Button>
        <Button kind={move.kind === "promote" ? "primary" : "danger"} onClick={submit}>
          {move.kind === "promote" ? "Promote" : "Roll back"}
        </Button>
      </div>
    </Dialog>
  );
}
