import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { useCommands, useObservable, useRun, useSeat } from "../app/context";
import { Receipt } from "../commands/Receipt";
import { Button } from "../ui/Button";
import { brief, whole } from "../ui/numbers";
import { Pill } from "../ui/Pill";
import { LayerForm } from "./LayerForm";
import { type Finding, findingsOf, healthOf, type LayerRow, readLayer, rowsOf, shortName } from "./tree";
import "./model.css";

const SHOWN = 200;
const LAYER_COMMANDS = ["model_layer_operation", "model_layer_parameter_update"];

/** The layers of the model: searchable, each with what was found about it and what may be done to it. */
export function ModelPanel() {
  const { api, session } = useSeat();
  const run = useRun();
  const commands = useCommands();
  const log = useObservable(session.log);
  // What was done to a layer shows in the next description of the model.
  const changes = commands.filter(
    ({ command, outcome }) => LAYER_COMMANDS.includes(command) && outcome === "success",
  ).length;
  const { data, isPending, error } = useQuery({
    queryKey: ["model", session.run, changes, run?.branch],
    queryFn: () => api.model(session.run),
    placeholderData: (before) => before,
    retry: false,
  });
  const root = useMemo(() => readLayer(data?.model), [data]);
  const findings = useMemo(() => findingsOf(log), [log]);
  const [opened, setOpened] = useState<ReadonlySet<string>>(new Set([""]));
  const [search, setSearch] = useState("");
  const [chosen, setChosen] = useState<string>();
  if (!root) {
    return (
      <div className="panel">
        <div className="empty">
          <strong>{isPending ? "Loading" : error ? "The model could not be loaded" : "No model yet"}</strong>
          <p>{error ? error.message : "A trainer describes its model when it begins."}</p>
        </div>
      </div>
    );
  }
  const rows = rowsOf(root, opened, search);
  const toggle = (name: string) => {
    const next = new Set(opened);
    if (!next.delete(name)) next.add(name);
    setOpened(next);
  };
  return (
    <div className="panel">
      <input
        className="input"
        type="search"
        aria-label="Find layers"
        placeholder="Find layers by name or type"
        value={search}
        onChange={(event) => setSearch(event.target.value)}
      />
      <ul className="layers" aria-label="Layers">
        {rows.slice(0, SHOWN).map((row) => (
          <LayerLine
            key={row.layer.name}
            row={row}
            findings={findings}
            chosen={chosen === row.layer.name}
            onToggle={() => toggle(row.layer.name)}
            onChoose={() => setChosen(chosen === row.layer.name ? undefined : row.layer.name)}
          />
        ))}
      </ul>
      {rows.length === 0 && <p className="muted">No layer is called so.</p>}
      {rows.length > SHOWN && (
        <p className="muted small">
          {brief(rows.length - SHOWN)} more; a longer search shows fewer, and all that it finds.
        </p>
      )}
      {LAYER_COMMANDS.map((name) => (
        <Receipt key={name} command={name} />
      ))}
    </div>
  );
}

interface LineProps {
  row: LayerRow;
  findings: ReadonlyMap<string, Finding>;
  chosen: boolean;
  onToggle: () => void;
  onChoose: () => void;
}

function LayerLine({ row, findings, chosen, onToggle, onChoose }: LineProps) {
  const { layer, depth, open } = row;
  const { own, below } = healthOf(layer, findings);
  const name = shortName(layer);
  const full = layer.name || "the model";
  const knobs = layer.operators.length + layer.hyperparameters.length;
  return (
    <li data-layer={layer.name}>
      <div className="layer-line" style={{ paddingLeft: `${Math.min(depth, 8) * 14}px` }}>
        {open === undefined ? (
          <span className="layer-toggle" />
        ) : (
          <button
            type="button"
            className="layer-toggle"
            aria-expanded={open}
            aria-label={`Layers of ${full}`}
            onClick={onToggle}
          >
            {open ? "▾" : "▸"}
          </button>
        )}
        <span className="ellipsis grow" title={full}>
          <span className="mono">{name}</span>{" "}
          {name !== layer.type && <span className="muted small">{layer.type}</span>}
        </span>
        {own && (
          <Pill tone={own.level === "error" ? "bad" : "warn"} title={own.message}>
            {own.check.replaceAll("_", " ")}
          </Pill>
        )}
        {!own && below > 0 && !open && <Pill tone="warn">{below} below</Pill>}
        {knobs > 0 && (
          <Button small kind="ghost" aria-expanded={chosen} aria-label={`Change ${full}`} onClick={onChoose}>
            change
          </Button>
        )}
      </div>
      {chosen && (
        <div className="layer-details">
          {own && (
            <p className="small">
              {own.step != null && <span className="mono">step {whole(own.step)}: </span>}
              {own.message}
            </p>
          )}
          <LayerForm layer={layer} />
        </div>
      )}
    </li>
  );
}
