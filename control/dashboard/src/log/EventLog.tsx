import { useState } from "react";
import { useObservable, useSeat } from "../app/context";
import { Clock } from "../ui/Ago";
import { Button } from "../ui/Button";
import { whole } from "../ui/numbers";
import { Pill } from "../ui/Pill";
import { describe } from "./describe";

const SHOWN = 200;
const TONES = { info: "plain", warning: "warn", error: "bad" } as const;

export function EventLog() {
  const { session } = useSeat();
  const events = useObservable(session.log);
  const [text, setText] = useState("");
  const [warnings, setWarnings] = useState(false);
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const lines = events
    .map((event) => ({ event, line: describe(event) }))
    .filter(({ event, line }) => {
      if (warnings && event.level === "info") return false;
      const hay = `${event.type} ${line} ${event.branch}`.toLowerCase();
      return words.every((word) => hay.includes(word));
    })
    .reverse()
    .slice(0, SHOWN);
  return (
    <>
      <div className="log-tools">
        <input
          className="input"
          type="search"
          placeholder="Filter events"
          aria-label="Filter events"
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
        <Button small aria-pressed={warnings} onClick={() => setWarnings(!warnings)}>
          warnings only
        </Button>
      </div>
      {lines.length === 0 ? (
        <div className="empty">
          <strong>No events{words.length > 0 || warnings ? " fit the filter" : " yet"}</strong>
        </div>
      ) : (
        <ul className="log">
          {lines.map(({ event, line }) => (
            <li key={event.seq} className="log-line event-line">
              <Clock time={event.time ?? 0} />
              <Pill tone={TONES[event.level ?? "info"]}>{event.type}</Pill>
              <span className="log-text">{line}</span>
              <span className="muted mono log-step">
                {event.step == null ? "" : `step ${whole(event.step)}`}
              </span>
            </li>
          ))}
        </ul>
      )}
    </>
  );
}
