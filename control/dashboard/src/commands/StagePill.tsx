import type { CommandRecord } from "../api/types";
import { Pill } from "../ui/Pill";
import { stageOf } from "./words";

export function StagePill({ command, step }: { command: CommandRecord; step: number | null | undefined }) {
  const { word, tone } = stageOf(command, step);
  return (
    <Pill tone={tone} title={command.reason || undefined}>
      {word}
    </Pill>
  );
}
