import { describe, expect, it } from "vitest";
import { chartsFor, curveName, shownAtFirst } from "./layout";

const names = [
  "epoch",
  "eval/loss",
  "eval_runtime",
  "grad_norm",
  "learning_rate",
  "loss",
  "loss/base",
  "loss/live",
  "health/dead/head",
  "my_metric",
];

describe("the charts of a run", () => {
  it("come in the order in which one looks at them", () => {
    expect(chartsFor(names, ["base", "live"]).map(({ title }) => title)).toEqual([
      "Loss",
      "Learning rate",
      "Gradient norm",
      "Loss by source",
      "Eval loss",
      "My metric",
      "Epoch",
      "Eval runtime",
      "Health dead head",
    ]);
  });

  it("put the parts of one thing together, and lose no metric", () => {
    const charts = chartsFor(names);
    expect(charts.find(({ id }) => id === "loss/*")?.metrics).toEqual(["loss/base", "loss/live"]);
    expect(charts.flatMap(({ metrics }) => metrics).sort()).toEqual([...names].sort());
  });

  it("smooth no set point", () => {
    expect(
      chartsFor(names)
        .filter(({ exact }) => exact)
        .map(({ id }) => id),
    ).toEqual(["learning_rate"]);
  });

  it("are six at first", () => {
    expect(shownAtFirst(chartsFor(names))).toHaveLength(6);
  });
});

it("names a curve without what its chart says already", () => {
  expect(curveName("loss/live")).toBe("live");
  expect(curveName("eval/base/success")).toBe("base/success");
  expect(curveName("loss")).toBe("loss");
});
