import { useEffect, useState } from "react";
import { duration } from "./numbers";

/** The time now in seconds, renewed every `every` seconds. */
export function useNow(every = 1): number {
  const [now, setNow] = useState(() => Date.now() / 1000);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now() / 1000), every * 1000);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

/** How long ago something was; the exact time is in its title. */
export function Ago({ time }: { time: number }) {
  const passed = Math.max(0, useNow(time > Date.now() / 1000 - 120 ? 1 : 20) - time);
  return (
    <time dateTime={new Date(time * 1000).toISOString()} title={new Date(time * 1000).toLocaleString()}>
      {passed < 2 ? "now" : `${duration(Math.round(passed))} ago`}
    </time>
  );
}

/** The time of day. */
export function Clock({ time }: { time: number }) {
  const date = new Date(time * 1000);
  return (
    <time dateTime={date.toISOString()} title={date.toLocaleString()} className="mono">
      {date.toLocaleTimeString("en-GB")}
    </time>
  );
}
