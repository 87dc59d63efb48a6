import { useId, useState } from "react";
import type { ChannelInfo } from "../api/types";
import { asCli } from "../commands/cli";
import { useSend } from "../commands/useSend";
import { Button } from "../ui/Button";
import { CopyButton } from "../ui/CopyButton";
import { Dialog } from "../ui/Dialog";
import { NoteField } from "../ui/NoteField";

export type Move =
  | { kind: "promote"; version: number }
  | { kind: "rollback" | "hold" | "release"; channel: string };

interface Words {
  command: string;
  title: (channel: string) => string;
  button: string;
  means: (channel: string) => string;
}

const WORDS: Readonly<Record<Move["kind"], Words>> = {
  promote: {
    command: "promote_version",
    title: () => "Promote",
    button: "Promote",
    means: () => "Every server that follows this channel takes the version with its next look.",
  },
  rollback: {
    command: "rollback_version",
    title: (channel) => `Roll ${channel} back`,
    button: "Roll back",
    means: (channel) =>
      `${channel} goes back to the version before and is held there: new versions do not move it until somebody releases it.`,
  },
  hold: {
    command: "pin_version",
    title: (channel) => `Hold ${channel}`,
    button: "Hold",
    means: (channel) =>
      `${channel} stays at its version: new ones are published, but do not move it until somebody releases it.`,
  },
  release: {
    command: "release_channel",
    title: (channel) => `Release ${channel}`,
    button: "Release",
    means: (channel) => `The next version that is published moves ${channel} again.`,
  },
};

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
  const [channel, setChannel] = useState(move.kind === "promote" ? "stable" : move.channel);
  const [note, setNote] = useState("");
  const send = useSend();
  const id = useId();
  const names = [...new Set(["stable", ...channels.map((pointer) => pointer.channel)])];
  const { command, title, button, means } = WORDS[move.kind];
  const args = move.kind === "promote" ? { channel, version: move.version } : { channel };
  const submit = () => send.mutate({ command, arguments: args, note }, { onSuccess: onClose });
  return (
    <Dialog title={move.kind === "promote" ? `Promote v${move.version}` : title(channel)} onClose={onClose}>
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
          <span className="hint">{means(channel)}</span>
        </div>
      ) : (
        <p>{means(channel)}</p>
      )}
      <NoteField note={note} onNote={setNote} />
      <div className="row end">
        <CopyButton text={asCli(command, args, note)} label="Copy as a command line" />
        <span className="grow" />
        <Button onClick={onClose}>Cancel</Button>
        <Button kind={move.kind === "rollback" ? "danger" : "primary"} onClick={submit}>
          {button}
        </Button>
      </div>
    </Dialog>
  );
}
