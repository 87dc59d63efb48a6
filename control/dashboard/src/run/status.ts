import type { RunDetail, RunStatus } from "../api/types";

export interface StatusWords {
  word: string;
  tone: "good" | "warn" | "bad" | "calm" | "plain";
  /** What it means and what can be done, for states in which training does not go on. */
  advice?: string;
}

const WORDS: Readonly<Record<RunStatus, StatusWords>> = {
  starting: { word: "starting", tone: "calm", advice: "The trainer is being set up; commands wait for it." },
  running: { word: "training", tone: "good" },
  paused: {
    word: "paused",
    tone: "warn",
    advice: "Every knob works while paused and takes effect with the next step.",
  },
  stopped: {
    word: "stopped",
    tone: "plain",
    advice: "Somebody stopped this run. It stays stopped until it is started.",
  },
  finished: { word: "finished", tone: "plain", advice: "It reached its last step." },
  crashed: {
    word: "crashed",
    tone: "bad",
    advice: "The trainer died. Under `stovetop up` it is started again from its last checkpoint.",
  },
  disconnected: {
    word: "trainer away",
    tone: "bad",
    advice: "The trainer is not connected. Training may well go on; commands wait until it is back.",
  },
};

/** Of a run that has had no trainer yet, which is no trouble. */
const NOT_YET: StatusWords = {
  word: "no trainer yet",
  tone: "calm",
  advice: "None has connected so far. One that starts loads its model and its data first.",
};

export function statusWords(run: Pick<RunDetail, "status" | "step">): StatusWords {
  if (run.status === "disconnected" && run.step == null) return NOT_YET;
  return WORDS[run.status] ?? { word: run.status, tone: "plain" };
}

/** Steps a second, from the durations of the newest steps; undefined while none are known. */
export function stepsPerSecond(seconds: ArrayLike<number>, newest = 20): number | undefined {
  const from = Math.max(0, seconds.length - newest);
  let sum = 0;
  for (let index = from; index < seconds.length; index += 1) sum += seconds[index] as number;
  return sum > 0 ? (seconds.length - from) / sum : undefined;
}
