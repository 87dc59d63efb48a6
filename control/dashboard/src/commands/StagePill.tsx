import type { CommandRecord } from "../api/types";
import { Pill } from "../ui/Pill";
import { stageOf } from "./words";

interface Props {
  command: CommandRecord;
  step: number | null | undefined;
  /** Leave out the step, where it stands beside. */
  short?: boolean;
}

export function StagePill({ command, step, short }: Props) {
  const { word, tone, open } = stageOf(command, step);
  const brief = short && command.outcome === "success" && !open && !command.dry_run;
  return (
    <Pill tone={tone} title={command.reason || undefined}>
      {brief ? "done" : word}
    </Pill>
  );
}
