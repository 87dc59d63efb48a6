import type { LinkFlow, LinkInfo, LinkName } from "../api/types";
import { brief, duration } from "../ui/numbers";

export type WayTone = "good" | "warn" | "bad" | "plain";

/** One link as it is drawn: a name, one large figure, a line under it, and how it does in a word. */
export interface Cell {
  name: LinkName;
  title: string;
  figure: string;
  unit: string;
  under: string;
  tone: WayTone;
  word: string;
  /** Whether something passes now: its arrow moves. */
  moves: boolean;
}

const TITLES: Readonly<Record<LinkName, string>> = {
  gateway: "Gateway",
  log: "Log",
  samples: "Samples",
  shards: "Shards",
  mixture: "Mixture",
  step: "Step",
  version: "Version",
  served: "Served",
};

const TONES: Readonly<Record<LinkFlow, WayTone>> = {
  flows: "good",
  idle: "plain",
  behind: "warn",
  broken: "bad",
  absent: "plain",
};

/** The trainer's own: a run that has nothing else is a script's, and shows no way. */
const TRAINERS: ReadonlySet<LinkName> = new Set(["mixture", "step", "version"]);

/** Whether there is a way to show: more of it than a training by itself. */
export function isWay(links: readonly LinkInfo[]): boolean {
  return links.some(({ link, flow }) => flow !== "absent" && !TRAINERS.has(link));
}

export function cellOf(info: LinkInfo): Cell {
  const { link, flow } = info;
  const common = {
    name: link,
    title: TITLES[link],
    tone: TONES[flow],
    word: flow,
    moves: flow === "flows" || flow === "behind",
  };
  if (flow === "absent") return { ...common, figure: "", unit: "", under: "not in this run" };
  if (flow === "broken") return { ...common, figure: "broken", unit: "", under: info.note ?? "" };
  if (info.rate == null)
    return { ...common, figure: info.note || flow, unit: "", under: lagOf(info), moves: flow === "flows" };
  const under = [lagOf(info), info.note].filter(Boolean).join(" · ");
  return { ...common, figure: rateOf(info.rate), unit: info.unit ?? "", under };
}

/** What has to be looked at, worst first. */
export function troublesOf(links: readonly LinkInfo[]): LinkInfo[] {
  const weight = (info: LinkInfo) => (info.flow === "broken" ? 0 : 1);
  return links
    .filter(({ flow, problem }) => (flow === "broken" || flow === "behind") && problem)
    .sort((one, other) => weight(one) - weight(other));
}

/** The first link of each trouble, and all links that share it: a dead trainer breaks two links for one reason. */
export function gathered(links: readonly LinkInfo[]): { names: string; info: LinkInfo }[] {
  const found = new Map<string, { names: string; info: LinkInfo }>();
  for (const info of troublesOf(links)) {
    const key = `${info.problem}\n${info.advice}`;
    const known = found.get(key);
    const title = TITLES[info.link];
    found.set(key, known ? { ...known, names: `${known.names}, ${title}` } : { names: title, info });
  }
  return [...found.values()];
}

function rateOf(rate: number): string {
  return rate === 0 ? "0" : brief(rate < 10 ? Number(rate.toFixed(2)) : Number(rate.toFixed(1)), 3);
}

function lagOf({ link, lag, lag_unit }: LinkInfo): string {
  if (lag == null) return "";
  if (lag_unit === "versions") return lag === 0 ? "current" : `${brief(lag)} behind`;
  if (link === "version") return `${duration(lag)} old`;
  if (link === "step") return "";
  return `${duration(lag)} lag`;
}
