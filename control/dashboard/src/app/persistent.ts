import { useCallback, useState } from "react";

/** A preference that outlives the tab. What is stored but does not fit any more is forgotten. */
export function usePersistent<Value>(
  key: string,
  initial: Value,
  fits: (stored: unknown) => stored is Value,
): [Value, (value: Value) => void] {
  const [value, setValue] = useState<Value>(() => read(key, fits) ?? initial);
  const remember = useCallback(
    (next: Value) => {
      setValue(next);
      try {
        window.localStorage.setItem(`stovetop-${key}`, JSON.stringify(next));
      } catch {
        // A full or forbidden storage costs the preference its memory, nothing else.
      }
    },
    [key],
  );
  return [value, remember];
}

function read<Value>(key: string, fits: (stored: unknown) => stored is Value): Value | undefined {
  try {
    const stored: unknown = JSON.parse(window.localStorage.getItem(`stovetop-${key}`) ?? "null");
    return fits(stored) ? stored : undefined;
  } catch {
    return undefined; // forbidden storage, or somebody else's text under this key
  }
}

export const isNumber = (value: unknown): value is number => typeof value === "number";
export const isBoolean = (value: unknown): value is boolean => typeof value === "boolean";
export const isStrings = (value: unknown): value is readonly string[] =>
  Array.isArray(value) && value.every((item) => typeof item === "string");
