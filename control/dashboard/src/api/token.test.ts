import { describe, expect, it } from "vitest";
import { splitFragment } from "./token";

describe("a fragment", () => {
  it("gives its token away and keeps the rest", () => {
    expect(splitFragment("#token=stv_a%2Bb&run=desktop")).toEqual({ token: "stv_a+b", rest: "#run=desktop" });
  });

  it("may have none", () => {
    expect(splitFragment("#run=desktop")).toEqual({ token: undefined, rest: "#run=desktop" });
    expect(splitFragment("")).toEqual({ token: undefined, rest: "" });
  });
});
