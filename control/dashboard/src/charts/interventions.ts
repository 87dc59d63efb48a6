import type { BranchInfo, CommandRecord, VersionInfo } from "../api/types";
import { lineageOf } from "../checkpoints/branches";
import { wish } from "../commands/words";
import type { Mark } from "./marks";

/** These change nothing that a curve could show. */
const QUIET: ReadonlySet<string> = new Set([
  "save_checkpoint",
  "do_evaluate",
  "publish_checkpoint",
  "pause_training",
  "resume_training",
  "stop_training",
  "start_training",
  "load_checkpoint", // its branch is marked as a fork
]);

/** Agents sign with their kind: `rule:spike`, `data:bandit`. */
const AGENT = /^[a-z]+:/;

/** What people and agents did to a branch and, before it was forked, to those that it came from: marks on its curves. */
export function marksOf(
  commands: readonly CommandRecord[],
  versions: readonly VersionInfo[],
  branches: readonly BranchInfo[],
  branch: string,
): Mark[] {
  const lineage = lineageOf(branches, branch);
  const counts = (name: string, step: number) => step <= (lineage.get(name) ?? Number.NEGATIVE_INFINITY);
  return [
    ...commands.flatMap((command) => intervention(command, counts)),
    ...versions.flatMap((version) => published(version, counts)),
    ...branches.flatMap((info) => fork(info, counts)),
  ].sort((one, other) => one.step - other.step);
}

type Counts = (branch: string, step: number) => boolean;

function intervention(command: CommandRecord, counts: Counts): Mark[] {
  const step = command.takes_effect_at ?? command.step;
  const happened = command.outcome === "success" && !command.dry_run && !QUIET.has(command.command);
  // Carried out at `step` and seen from the next one on: a checkpoint saved in between holds it.
  if (!happened || step == null || !counts(command.branch, command.step ?? step)) return [];
  const label = wish(command.command, command.arguments ?? {});
  const why = command.note ? `: “${command.note}”` : "";
  const title = `${label}, by ${command.author}${why}`;
  return [
    { step, kind: "intervention", label: short(label), title, agent: AGENT.test(command.author ?? "") },
  ];
}

function published(version: VersionInfo, counts: Counts): Mark[] {
  if (version.step == null || version.action === "refused" || !counts(version.branch, version.step))
    return [];
  const where = version.channels?.length ? `, now ${version.channels.join(" and ")}` : "";
  return [
    {
      step: version.step,
      kind: "version",
      label: `v${version.version}`,
      title: `version ${version.version}${where}`,
    },
  ];
}

function fork(info: BranchInfo, counts: Counts): Mark[] {
  if (info.forked_at == null || !counts(info.branch, info.forked_at)) return [];
  return [{ step: info.forked_at, kind: "fork", label: "fork", title: `${info.branch} began here` }];
}

/** Fits on a curve: the names of a mixture's sources give way first. */
function short(label: string): string {
  if (label.startsWith("mix ")) return "mix";
  return label.length > 22 ? `${label.slice(0, 21)}…` : label;
}
