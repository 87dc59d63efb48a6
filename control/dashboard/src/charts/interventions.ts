import type { BranchInfo, CommandRecord, VersionInfo } from "../api/types";
import { wish } from "../commands/words";
import type { Mark } from "./marks";

/** These change nothing that a curve could show. */
const QUIET: ReadonlySet<string> = new Set(["save_checkpoint", "do_evaluate", "publish_checkpoint"]);

/** What people and agents did to a branch, as marks on its curves. */
export function marksOf(
  commands: readonly CommandRecord[],
  versions: readonly VersionInfo[],
  branches: readonly BranchInfo[],
  branch: string,
): Mark[] {
  return [
    ...commands.flatMap((command) => intervention(command, branch)),
    ...versions.flatMap((version) => published(version, branch)),
    ...branches.flatMap((info) => fork(info, branch)),
  ].sort((one, other) => one.step - other.step);
}

function intervention(command: CommandRecord, branch: string): Mark[] {
  const step = command.takes_effect_at ?? command.step;
  const counts = command.outcome === "success" && !command.dry_run && !QUIET.has(command.command);
  if (!counts || step == null || command.branch !== branch) return [];
  const label = wish(command.command, command.arguments ?? {});
  const why = command.note ? `: “${command.note}”` : "";
  return [{ step, kind: "intervention", label: short(label), title: `${label}, by ${command.author}${why}` }];
}

function published(version: VersionInfo, branch: string): Mark[] {
  if (version.step == null || version.branch !== branch || version.action === "refused") return [];
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

function fork(info: BranchInfo, branch: string): Mark[] {
  if (info.forked_at == null || info.branch !== branch) return [];
  return [{ step: info.forked_at, kind: "fork", label: "fork", title: `${info.branch} began here` }];
}

/** Fits on a curve: the names of a mixture's sources give way first. */
function short(label: string): string {
  if (label.startsWith("mix ")) return "mix";
  return label.length > 22 ? `${label.slice(0, 21)}…` : label;
}
