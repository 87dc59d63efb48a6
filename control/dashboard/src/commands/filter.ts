import type { CommandRecord } from "../api/types";
import { wish } from "./words";

export type StateFilter = "all" | "open" | "failed";

/** Whether a command is in the chosen state and holds every word of `text`, whatever the case. */
export function matches(command: CommandRecord, text: string, state: StateFilter): boolean {
  if (state === "open" && command.outcome) return false;
  if (state === "failed" && (!command.outcome || command.outcome === "success")) return false;
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const hay = [
    command.command,
    wish(command.command, command.arguments ?? {}),
    command.author,
    command.note,
    command.reason,
    command.outcome ?? command.status,
    command.branch,
    JSON.stringify(command.arguments ?? {}),
  ]
    .join("\n")
    .toLowerCase();
  return words.every((word) => hay.includes(word));
}
