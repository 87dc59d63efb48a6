import type { CommandRecord } from "../api/types";
import { brief, whole } from "../ui/numbers";
import type { Toast } from "../ui/toasts";
import { wish } from "./words";

/** Commands that were sent from this tab and have no outcome yet: their outcome is announced, once. */
const watched = new Set<string>();

export function watchOutcome(uuid: string): void {
  watched.add(uuid);
}

/** The announcements that `commands` now call for. */
export function takeOutcomes(commands: readonly CommandRecord[]): Toast[] {
  const news: Toast[] = [];
  for (const command of commands) {
    if (!command.outcome || !watched.delete(command.uuid)) continue;
    news.push(announce(command));
  }
  return news;
}

function announce(command: CommandRecord): Toast {
  const title = wish(command.command, command.arguments ?? {});
  if (command.outcome !== "success") {
    return { tone: "bad", title: `${title}: ${command.outcome}`, detail: command.reason };
  }
  return { tone: "good", title, detail: when(command) };
}

function when({ step, takes_effect_at }: CommandRecord): string {
  if (takes_effect_at != null) return `In effect from step ${brief(takes_effect_at)}.`;
  return step == null ? "Done." : `Done at step ${whole(step)}.`;
}
