import { useState } from "react";
import type { ChannelInfo, VersionInfo } from "../api/types";
import { useFollowers, useVersions } from "../app/context";
import { useCommandSpec } from "../commands/useSend";
import { Ago } from "../ui/Ago";
import { Button } from "../ui/Button";
import { bytes } from "../ui/bytes";
import { brief } from "../ui/numbers";
import { Pill } from "../ui/Pill";
import { type Move, MoveDialog } from "./MoveDialog";
import "./versions.css";

const SHOWN = 40;

export function VersionPanel() {
  const told = useVersions();
  const [move, setMove] = useState<Move>();
  const promote = useCommandSpec("promote_version");
  const rollback = useCommandSpec("rollback_version");
  const versions = told?.versions ?? [];
  const channels = told?.channels ?? [];
  return (
    <div className="panel">
      <ChannelList
        channels={channels}
        versions={versions}
        unavailable={rollback.unavailable}
        onRollback={(channel) => setMove({ kind: "rollback", channel })}
      />
      <FollowerList channels={channels} />
      <h2 className="section-title">Versions</h2>
      {versions.length === 0 && (
        <div className="empty">
          <strong>Nothing published yet</strong>
          <p>
            Publish makes a version of the weights as they are now, signed and whole, for servers to load.
          </p>
        </div>
      )}
      <ul className="versions">
        {versions.slice(0, SHOWN).map((version) => (
          <li key={version.version}>
            <div className="grow">
              <div className="row">
                <strong className="mono">v{version.version}</strong>
                {version.channels?.map((channel) => (
                  <Pill key={channel} tone={channel === "stable" ? "good" : "ember"}>
                    {channel}
                  </Pill>
                ))}
                {version.action === "refused" && (
                  <Pill tone="bad" title={version.reason}>
                    refused
                  </Pill>
                )}
              </div>
              <div className="muted small">
                {version.step != null && <>step {brief(version.step)} · </>}
                {version.branch} · <Ago time={version.time} />
                {version.bytes != null && <> · {bytes(version.bytes)}</>}
              </div>
            </div>
            {version.action !== "refused" && (
              <Button
                small
                unavailable={promote.unavailable}
                aria-label={`Promote version ${version.version}`}
                onClick={() => setMove({ kind: "promote", version: version.version })}
              >
                Promote
              </Button>
            )}
          </li>
        ))}
      </ul>
      {move && <MoveDialog move={move} channels={channels} onClose={() => setMove(undefined)} />}
    </div>
  );
}

interface ChannelListProps {
  channels: readonly ChannelInfo[];
  versions: readonly VersionInfo[];
  unavailable: string | undefined;
  onRollback: (channel: string) => void;
}

function ChannelList({ channels, versions, unavailable, onRollback }: ChannelListProps) {
  if (channels.length === 0) return null;
  const stepOf = new Map(versions.map(({ version, step }) => [version, step]));
  return (
    <section aria-label="Channels">
      <h2 className="section-title">Channels</h2>
      <ul className="channels">
        {channels.map(({ channel, version, held, time }) => {
          const step = stepOf.get(version);
          return (
            <li key={channel}>
              <span className="grow">
                {channel} <span className="muted">→</span> <strong className="mono">v{version}</strong>
                <span className="muted small">
                  {step != null && <> step {brief(step)}</>} · <Ago time={time} />
                </span>
              </span>
              {held && (
                <Pill tone="warn" title="New versions do not move it until somebody releases it.">
                  held
                </Pill>
              )}
              <Button
                kind="ghost"
                small
                unavailable={unavailable}
                aria-label={`Roll back ${channel}`}
                onClick={() => onRollback(channel)}
              >
                Roll back
              </Button>
            </li>
          );
        })}
      </ul>
    </section>
  );
}

/** A heartbeat older than this many seconds is missing. */
const SILENT = 60;

function FollowerList({ channels }: { channels: readonly ChannelInfo[] }) {
  const followers = useFollowers();
  if (followers.length === 0) return null;
  const newest = new Map(channels.map(({ channel, version }) => [channel, version]));
  return (
    <section aria-label="Served by">
      <h2 className="section-title">Served by</h2>
      <ul className="channels">
        {followers.map(({ follower, version, channel, time, error }) => {
          const current = version !== null && newest.get(channel) === version;
          const silent = Date.now() / 1000 - time > SILENT;
          const tone = error ? "bad" : silent || !current ? "warn" : "good";
          const word = error ? "failing" : silent ? "silent" : current ? "current" : "behind";
          return (
            <li key={follower}>
              <span className="grow ellipsis">
                {follower} <strong className="mono">{version === null ? "base" : `v${version}`}</strong>
                <span className="muted small">
                  {" "}
                  · heard <Ago time={time} />
                </span>
              </span>
              <Pill tone={tone} title={error || undefined}>
                {word}
              </Pill>
            </li>
          );
        })}
      </ul>
    </section>
  );
}
