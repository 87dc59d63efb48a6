import { useEffect, useState } from "react";
import { usePersistent } from "./persistent";

export type Theme = "dark" | "light";
type Choice = Theme | "system";

const isChoice = (value: unknown): value is Choice =>
  value === "dark" || value === "light" || value === "system";
const lightQuery = () => window.matchMedia("(prefers-color-scheme: light)");

/** The theme in force, and a switch to the other one; until somebody switches, it is the system's. */
export function useTheme(): [Theme, () => void] {
  const [choice, setChoice] = usePersistent<Choice>("theme", "system", isChoice);
  const [systemIsLight, setSystemIsLight] = useState(() => lightQuery().matches);
  useEffect(() => {
    const query = lightQuery();
    const follow = () => setSystemIsLight(query.matches);
    query.addEventListener("change", follow);
    return () => query.removeEventListener("change", follow);
  }, []);
  const theme = choice === "system" ? (systemIsLight ? "light" : "dark") : choice;
  // At once and not in an effect: the charts read their colours from it in theirs.
  document.documentElement.dataset.theme = theme;
  return [theme, () => setChoice(theme === "dark" ? "light" : "dark")];
}
