import type { RunSummary } from "../api/types";
import type { Link } from "../live/stream";
import { useNow } from "../ui/Ago";
import { Button } from "../ui/Button";
import { Icon } from "../ui/Icon";
import { brief } from "../ui/numbers";
import { Pill } from "../ui/Pill";
import { useObservable, useSeat } from "./context";
import type { Theme } from "./theme";

interface Props {
  runs: readonly RunSummary[];
  run: string;
  onRun: (run: string) => void;
  theme: Theme;
  onTheme: () => void;
  onHelp: () => void;
  onLeave: () => void;
}

export function StatusBar({ runs, run, onRun, theme, onTheme, onHelp, onLeave }: Props) {
  return (
    <header className="status-bar">
      <span className="brand">
        <Icon name="flame" size={18} /> <span>Stovetop</span>
      </span>
      {runs.length > 1 && (
        <select
          className="input run-choice"
          aria-label="Run"
          value={run}
          onChange={(event) => onRun(event.target.value)}
        >
          {runs.map(({ run: name, status }) => (
            <option key={name} value={name}>
              {status === "running" ? name : `${name} (${status})`}
            </option>
          ))}
        </select>
      )}
      <span className="grow" />
      <Connection />
      <Button
        kind="ghost"
        small
        className="for-keyboards"
        onClick={onHelp}
        aria-label="Keyboard shortcuts"
        title="Keyboard shortcuts (?)"
      >
        <Icon name="keyboard" />
      </Button>
      <Button
        kind="ghost"
        small
        onClick={onTheme}
        aria-label={theme === "dark" ? "Light colours" : "Dark colours"}
        title={theme === "dark" ? "Light colours" : "Dark colours"}
      >
        <Icon name={theme === "dark" ? "sun" : "moon"} />
      </Button>
      <Button kind="ghost" small onClick={onLeave} title="Forget the token in this tab">
        Leave
      </Button>
    </header>
  );
}

/** How live the page is. Nothing on it is younger than this says. */
function Connection() {
  const { session } = useSeat();
  const link = useObservable(session.link);
  const problem = useObservable(session.problem);
  const now = useNow() * 1000;
  const { tone, words } = problem
    ? { tone: "bad" as const, words: `no answer: ${problem.message}` }
    : inWords(link, now);
  return (
    <span
      className="row connection"
      data-testid="connection"
      data-state={problem ? "unreachable" : link.state}
    >
      <span role="status">
        <Pill tone={tone}>{words}</Pill>
      </span>
      {link.state === "reconnecting" && (
        <Button small onClick={() => session.retryNow()}>
          Now
        </Button>
      )}
    </span>
  );
}

function inWords(link: Link, now: number): { tone: "good" | "warn" | "bad" | "calm"; words: string } {
  switch (link.state) {
    case "connecting":
      return { tone: "calm", words: "connecting" };
    case "replaying":
      return { tone: "calm", words: `replaying ${brief(link.behind)} events` };
    case "connected":
      return { tone: "good", words: "connected" };
    case "stale":
      return { tone: "warn", words: `stale for ${Math.max(0, Math.round((now - link.since) / 1000))} s` };
    case "reconnecting":
      return {
        tone: "bad",
        words: `reconnecting in ${Math.max(0, Math.ceil((link.retryAt - now) / 1000))} s`,
      };
    case "refused":
      return { tone: "bad", words: "token refused" };
    case "closed":
      return { tone: "warn", words: "closed" };
  }
}
