import { useQuery } from "@tanstack/react-query";
import type { LinkInfo } from "../api/types";
import { useSeat } from "../app/context";
import { SHAPES } from "../ui/Pill";
import { cellOf, gathered, isWay } from "./read";
import "./way.css";

const EVERY = 1000;

/** The way of one click as one picture: what passes each link, how late, and where it is broken. */
export function Way() {
  const { api, session } = useSeat();
  const { data, isError } = useQuery({
    queryKey: ["way", session.run],
    queryFn: () => api.way(session.run),
    refetchInterval: EVERY,
    retry: false,
  });
  if (!data || !isWay(data.links)) return null;
  const troubles = gathered(data.links);
  return (
    <section className="card way" aria-label="The way of one click" data-stale={isError || undefined}>
      <ol className="way-links">
        {data.links.map((info) => (
          <WayLink key={info.link} info={info} />
        ))}
      </ol>
      <div role="status" className="way-troubles">
        {isError && (
          <p className="way-trouble warn">
            <strong>Not live.</strong> The control server does not answer; this is how it was last.
          </p>
        )}
        {!isError &&
          troubles.map(({ names, info }) => (
            <p key={names} className={info.flow === "broken" ? "way-trouble bad" : "way-trouble warn"}>
              <span aria-hidden="true">{SHAPES[info.flow === "broken" ? "bad" : "warn"]}</span>{" "}
              <strong>{names}:</strong> {info.problem} <span className="muted">{info.advice}</span>
            </p>
          ))}
      </div>
    </section>
  );
}

function WayLink({ info }: { info: LinkInfo }) {
  const cell = cellOf(info);
  return (
    <li
      className={`way-link ${cell.tone}`}
      data-link={cell.name}
      data-flow={info.flow}
      data-moves={cell.moves || undefined}
      title={info.problem || undefined}
    >
      <span className="way-name">
        <span className="way-shape" aria-hidden="true">
          {SHAPES[cell.tone]}
        </span>
        {cell.title}
        <span className="visually-hidden">: {cell.word}</span>
      </span>
      <span className="way-figure">
        {cell.figure}
        {cell.unit && <span className="way-unit"> {cell.unit}</span>}
      </span>
      <span className="way-under ellipsis" title={cell.under || undefined}>
        {cell.under}
      </span>
    </li>
  );
}
