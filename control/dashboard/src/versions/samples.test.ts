import { describe, expect, it } from "vitest";
import { exampleVersion, exampleSample as sample } from "./example";
import { besideTheLast, newestPainted } from "./samples";

const version = (number: number, parent: number | null, ...labels: string[]) =>
  exampleVersion(number, parent, { samples: labels.map((label) => sample(label, number)) });

describe("pictures of a version", () => {
  it("stand beside those of the version that it comes from, by what they show", () => {
    const versions = [version(3, 1, "open", "new"), version(2, 1, "open"), version(1, null, "open", "close")];
    expect(besideTheLast(versions, 3)).toEqual({
      version: 3,
      before: 1,
      pairs: [
        { now: sample("open", 3), before: sample("open", 1) },
        { now: sample("new", 3), before: undefined },
      ],
    });
  });

  it("are held against the nearest earlier ones where the parent has none", () => {
    const versions = [
      version(4, 3, "open"),
      version(3, null),
      version(2, null, "open"),
      version(1, null, "open"),
    ];
    expect(besideTheLast(versions, 4)?.before).toBe(2);
  });

  it("stand alone where they are the first", () => {
    const versions = [version(2, null, "open"), version(1, null)];
    expect(besideTheLast(versions, 2)).toMatchObject({ before: undefined });
    expect(besideTheLast(versions, 2)?.pairs[0]?.before).toBeUndefined();
  });

  it("are not there for a version without any", () => {
    expect(besideTheLast([version(1, null)], 1)).toBeUndefined();
    expect(besideTheLast([], 1)).toBeUndefined();
  });

  it("are those of the newest version that has some", () => {
    expect(newestPainted([version(3, null), version(2, null, "open"), version(1, null, "open")])).toBe(2);
    expect(newestPainted([version(1, null)])).toBeUndefined();
  });
});
