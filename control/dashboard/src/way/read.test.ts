import { describe, expect, it } from "vitest";
import type { LinkInfo } from "../api/types";
import { cellOf, gathered, isWay } from "./read";

const link = (changes: Partial<LinkInfo>): LinkInfo => ({
  link: "samples",
  flow: "flows",
  unit: "",
  lag_unit: "",
  note: "",
  problem: "",
  advice: "",
  ...changes,
});

describe("the way of one click", () => {
  it("shows a rate with its lag and note", () => {
    const cell = cellOf(link({ rate: 3.456, unit: "samples/s", lag: 0.4, lag_unit: "s", note: "2 dead" }));
    expect(cell).toMatchObject({
      figure: "3.46",
      unit: "samples/s",
      under: "400 ms lag · 2 dead",
      tone: "good",
      moves: true,
    });
  });

  it("shows what has no rate by its note", () => {
    expect(cellOf(link({ link: "version", note: "v12", lag: 9, lag_unit: "s" }))).toMatchObject({
      figure: "v12",
      under: "9 s old",
    });
    expect(cellOf(link({ link: "served", note: "2 servers", lag: 0, lag_unit: "versions" }))).toMatchObject({
      figure: "2 servers",
      under: "current",
    });
  });

  it("says each trouble once, broken links before late ones", () => {
    const away = { flow: "broken" as const, problem: "The trainer is away.", advice: "Start it." };
    const links = [
      link({ flow: "behind", problem: "late", advice: "wait" }),
      link({ link: "mixture", ...away }),
      link({ link: "step", ...away }),
    ];
    expect(gathered(links).map(({ names }) => names)).toEqual(["Mixture, Step", "Samples"]);
    expect(cellOf(link({ link: "step", ...away })).figure).toBe("broken");
  });

  it("is left out where a script trains by itself", () => {
    const alone = [
      link({ link: "gateway", flow: "absent" }),
      link({ link: "step" }),
      link({ link: "mixture" }),
    ];
    expect(isWay(alone)).toBe(false);
    expect(isWay([...alone, link({ link: "served" })])).toBe(true);
  });
});
