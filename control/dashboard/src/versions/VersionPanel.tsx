import { useState } from "react";
import type { ChannelInfo, VersionInfo } from "../api/types";
import { useFollowers, useVersions } from "../app/context";
import { useCommandSpec } from "../commands/useSend";
import { Ago, useNow } from "../ui/Ago";
import { Button } from "../ui/Button";
import { brief, whole } from "../ui/numbers";
import { Pill } from "../ui/Pill";
import { type Move, MoveDialog } from "./MoveDialog";
import { followerWords } from "./read";
import { SampleStrips } from "./SampleStrips";
import { besideTheLast, newestPainted } from "./samples";
import { VersionLine } from "./VersionLine";
import "./versions.css";

const SHOWN = 40;

export function VersionPanel() {
  const told = useVersions();
  const [move, setMove] = useState<Move>();
  const promote = useCommandSpec("promote_version");
  const versions = told?.versions ?? [];
  const channels = told?.channels ?? [];
  return (
    <div className="panel">
      <ChannelList channels={channels} versions={versions} onMove={setMove} />
      <FollowerList channels={channels} />
      <NewestPainted versions={versions} />
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
          <VersionLine
            key={version.version}
            version={version}
            versions={versions}
            unavailable={promote.unavailable}
            onPromote={() => setMove({ kind: "promote", version: version.version })}
          />
        ))}
      </ul>
      {move && <MoveDialog move={move} channels={channels} onClose={() => setMove(undefined)} />}
    </div>
  );
}

interface ChannelListProps {
  channels: readonly ChannelInfo[];
  versions: readonly VersionInfo[];
  onMove: (move: Move) => void;
}

function ChannelList({ channels, versions, onMove }: ChannelListProps) {
  const rollback = useCommandSpec("rollback_version");
  const hold = useCommandSpec("pin_version");
  const release = useCommandSpec("release_channel");
  if (channels.length === 0) return null;
  const stepOf = new Map(versions.map(({ version, step }) => [version, step]));
  return (
    <section aria-label="Channels">
      <h2 className="section-title">Channels</h2>
      <ul className="channels">
        {channels.map(({ channel, version, held, time }) => {
          const step = stepOf.get(version);
          const kind = held ? "release" : "hold";
          return (
            <li key={channel} className="channel">
              <div className="row">
                <strong>{channel}</strong> <span className="muted">→</span>{" "}
                <strong className="mono">v{version}</strong>
                <span className="muted small grow ellipsis">
                  {step != null && <>step {whole(step)} · </>}
                  <Ago time={time} />
                </span>
                {held && (
                  <Pill tone="warn" title="New versions do not move it until somebody releases it.">
                    held
                  </Pill>
                )}
              </div>
              <div className="row">
                <Button
                  small
                  unavailable={(held ? release : hold).unavailable}
                  aria-label={held ? `Release ${channel}` : `Hold ${channel}`}
                  onClick={() => onMove({ kind, channel })}
                >
                  {held ? "Release" : "Hold"}
                </Button>
                <Button
                  small
                  unavailable={rollback.unavailable}
                  aria-label={`Roll back ${channel}`}
                  onClick={() => onMove({ kind: "rollback", channel })}
                >
                  Roll back
                </Button>
              </div>
            </li>
          );
        })}
      </ul>
    </section>
  );
}

/** What the newest version with pictures paints, beside the last. */
function NewestPainted({ versions }: { versions: readonly VersionInfo[] }) {
  const newest = newestPainted(versions);
  const beside = newest === undefined ? undefined : besideTheLast(versions, newest);
  if (!beside) return null;
  return (
    <section aria-label="Samples">
      <h2 className="section-title">
        Samples of v{beside.version}
        {beside.before !== undefined && ` beside v${beside.before}`}
      </h2>
      <SampleStrips beside={beside} />
    </section>
  );
}

function FollowerList({ channels }: { channels: readonly ChannelInfo[] }) {
  const followers = useFollowers();
  const now = useNow(2);
  if (followers.length === 0) return null;
  return (
    <section aria-label="Served by">
      <h2 className="section-title">Served by</h2>
      <ul className="channels">
        {followers.map((follower) => {
          const { tone, word, lag } = followerWords(follower, channels, now);
          return (
            <li key={follower.follower} className="follower">
              <div className="row">
                <span className="grow ellipsis">
                  {follower.follower}{" "}
                  <strong className="mono">
                    {follower.version === null ? "base" : `v${follower.version}`}
                  </strong>
                  <span className="muted small"> of {follower.channel}</span>
                </span>
                <Pill tone={tone}>{word}</Pill>
              </div>
              <div className="muted small">
                {lag && <>{lag} · </>}
                heard <Ago time={follower.time} />
                {follower.swaps != null && <> · {brief(follower.swaps)} taken</>}
              </div>
              {follower.error && <p className="problem">{follower.error}</p>}
            </li>
          );
        })}
      </ul>
    </section>
  );
}
