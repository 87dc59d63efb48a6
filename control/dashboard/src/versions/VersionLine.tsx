import { useState } from "react";
import type { VersionInfo } from "../api/types";
import { Ago } from "../ui/Ago";
import { Button } from "../ui/Button";
import { bytes } from "../ui/bytes";
import { brief, whole } from "../ui/numbers";
import { Pill } from "../ui/Pill";
import { figuresOf, lineageOf } from "./read";
import { SampleStrips } from "./SampleStrips";
import { besideTheLast } from "./samples";

interface Props {
  version: VersionInfo;
  versions: readonly VersionInfo[];
  unavailable: string | undefined;
  onPromote: () => void;
}

/** A version: where it stands, what was measured of it beside the one before, and where it comes from. */
export function VersionLine({ version, versions, unavailable, onPromote }: Props) {
  const [open, setOpen] = useState(false);
  const refused = version.action === "refused";
  return (
    <li className="version">
      <div className="row">
        <button
          type="button"
          className="version-name mono"
          aria-expanded={open}
          aria-label={`v${version.version}: details`}
          onClick={() => setOpen(!open)}
        >
          <span aria-hidden="true">{open ? "▾" : "▸"}</span> v{version.version}
        </button>
        {version.channels?.map((channel) => (
          <Pill key={channel} tone={channel === "stable" ? "good" : "ember"}>
            {channel}
          </Pill>
        ))}
        {refused && <Pill tone="bad">refused</Pill>}
        <span className="muted small grow ellipsis">
          {version.step != null && <>step {whole(version.step)} · </>}
          <Ago time={version.time} />
        </span>
        {!refused && (
          <Button
            small
            unavailable={unavailable}
            aria-label={`Promote version ${version.version}`}
            onClick={onPromote}
          >
            Promote
          </Button>
        )}
      </div>
      {refused && version.reason && <p className="problem">{version.reason}</p>}
      {open && <Details version={version} versions={versions} />}
      {open && <Painted version={version} versions={versions} />}
    </li>
  );
}

function Painted({ version, versions }: { version: VersionInfo; versions: readonly VersionInfo[] }) {
  const beside = besideTheLast(versions, version.version);
  return beside && <SampleStrips beside={beside} />;
}

function Details({ version, versions }: { version: VersionInfo; versions: readonly VersionInfo[] }) {
  const lineage = lineageOf(versions, version.version);
  const figures = figuresOf(version, lineage[0]);
  return (
    <dl className="version-details">
      <div>
        <dt>branch</dt>
        <dd>
          {version.branch} <span className="muted mono">{version.segment}</span>
        </dd>
      </div>
      {version.bytes != null && (
        <div>
          <dt>size</dt>
          <dd>{bytes(version.bytes)}</dd>
        </div>
      )}
      {figures.map(({ name, value, change }) => (
        <div key={name}>
          <dt>{name.replaceAll("_", " ")}</dt>
          <dd className="mono">
            {brief(value)}
            {change !== undefined && (
              <span className="muted">
                {" "}
                ({change > 0 ? "+" : change < 0 ? "−" : "±"}
                {brief(Math.abs(change), 2)} from v{lineage[0]?.version})
              </span>
            )}
          </dd>
        </div>
      ))}
      <div>
        <dt>comes from</dt>
        <dd className="mono">
          {lineage.length > 0
            ? lineage
                .slice(0, 8)
                .map((info) => `v${info.version}`)
                .join(" ← ")
            : version.parent != null
              ? `v${version.parent}`
              : "the base"}
        </dd>
      </div>
    </dl>
  );
}
