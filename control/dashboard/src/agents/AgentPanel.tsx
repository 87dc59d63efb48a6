import { useState } from "react";
import { useRun } from "../app/context";
import { useCommandSpec, useSend } from "../commands/useSend";
import { wish } from "../commands/words";
import { Button } from "../ui/Button";
import { brief, whole } from "../ui/numbers";
import { Pill } from "../ui/Pill";
import { LimitsForm } from "./LimitsForm";
import { type Agent, readAgents, type Suggestion } from "./read";
import "./agents.css";

/** Who steers beside people: what each saw and said, what it may do, and the switches. */
export function AgentPanel() {
  const run = useRun();
  const told = readAgents(run?.state);
  const { unavailable } = useCommandSpec("set_agents");
  const send = useSend();
  if (!told || told.agents.length === 0) {
    return (
      <div className="panel">
        <div className="empty">
          <strong>No agent watches this run</strong>
          <p>
            Name some in the settings under <code>agents</code>: rules, a language model, or one that turns
            the mixture. They start with the service.
          </p>
        </div>
      </div>
    );
  }
  const set = (args: Record<string, unknown>) => send.mutate({ command: "set_agents", arguments: args });
  return (
    <div className="panel">
      <div className="row">
        <span className="grow">
          {told.enabled ? "Agents may work within their limits." : "All agents are switched off."}
        </span>
        <Button
          small
          kind={told.enabled ? "danger" : "primary"}
          unavailable={unavailable}
          onClick={() => set({ enabled: !told.enabled })}
        >
          {told.enabled ? "Switch all off" : "Switch on"}
        </Button>
      </div>
      <ul className="agents" aria-label="Agents">
        {told.agents.map((agent) => (
          <AgentRow
            key={agent.name}
            agent={agent}
            unavailable={unavailable}
            onSet={(changes) => set({ agents: { [agent.name]: changes } })}
          />
        ))}
      </ul>
    </div>
  );
}

const TONES = { off: "calm", held: "bad", failing: "bad", acts: "ember", suggests: "plain" } as const;

function wordOf(agent: Agent): keyof typeof TONES {
  if (!agent.enabled) return "off";
  if (agent.held) return "held";
  if (agent.failed) return "failing";
  return agent.acts ? "acts" : "suggests";
}

interface RowProps {
  agent: Agent;
  unavailable: string | undefined;
  onSet: (changes: Record<string, unknown>) => void;
}

function AgentRow({ agent, unavailable, onSet }: RowProps) {
  const send = useSend();
  const word = wordOf(agent);
  return (
    <li>
      <div className="row">
        <strong className="grow ellipsis">
          {agent.name} <span className="muted small">{agent.kind}</span>
        </strong>
        <Pill tone={TONES[word]}>{word}</Pill>
      </div>
      <p className={agent.held || agent.failed ? "small failing" : "small"}>
        {agent.looked !== null && !agent.held && <span className="mono">step {brief(agent.looked)}: </span>}
        {agent.held || agent.failed || agent.resting || agent.said || "It has not looked yet."}
      </p>
      <p className="muted small">
        {agent.spent}
        {agent.budget === null ? "" : ` of ${agent.budget}`} commands sent
      </p>
      <div className="row">
        <Button
          small
          kind="ghost"
          unavailable={unavailable}
          aria-label={`Look now: ${agent.name}`}
          onClick={() => send.mutate({ command: "ask_agent", arguments: { agent: agent.name } })}
        >
          Look now
        </Button>
        <Button
          small
          kind="ghost"
          unavailable={unavailable}
          aria-label={`${agent.acts ? "Only suggest" : "Let it act"}: ${agent.name}`}
          onClick={() => onSet({ mode: agent.acts ? "suggest" : "act" })}
        >
          {agent.acts ? "Only suggest" : "Let it act"}
        </Button>
        <Button
          small
          unavailable={unavailable}
          aria-label={`Switch ${agent.enabled ? "off" : "on"}: ${agent.name}`}
          onClick={() => onSet({ enabled: !agent.enabled })}
        >
          {agent.enabled ? "Switch off" : "Switch on"}
        </Button>
      </div>
      {agent.suggestion && <SuggestionBox suggestion={agent.suggestion} />}
      <AgentDetails agent={agent} />
    </li>
  );
}

/** What it saw last, and what it may do. */
function AgentDetails({ agent }: { agent: Agent }) {
  const [setting, setSetting] = useState(false);
  return (
    <>
      <details className="small">
        <summary>What it saw, and its bounds</summary>
        {agent.saw.length > 0 && (
          <dl className="figures" aria-label={`What ${agent.name} saw`}>
            {agent.saw.map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{brief(value)}</dd>
              </div>
            ))}
          </dl>
        )}
        <ul aria-label={`Bounds of ${agent.name}`} className="bounds">
          {agent.bounds.map((line) => (
            <li key={line}>{line}</li>
          ))}
        </ul>
      </details>
      <details className="small" onToggle={(event) => setSetting(event.currentTarget.open)}>
        <summary>Set its bounds</summary>
        {setting && <LimitsForm agent={agent} />}
      </details>
    </>
  );
}

function SuggestionBox({ suggestion }: { suggestion: Suggestion }) {
  const send = useSend();
  const { unavailable } = useCommandSpec("accept_suggestion");
  return (
    <section className="suggestion" aria-label={`Suggestion of ${suggestion.by}`}>
      <p className="small">
        <strong>{suggestion.by}</strong> at step {whole(suggestion.step)}: {suggestion.explanation}
      </p>
      <ul className="small">
        {suggestion.commands.map((each) => (
          <li key={`${each.command} ${JSON.stringify(each.arguments)}`}>
            {wish(each.command, each.arguments)}
          </li>
        ))}
      </ul>
      <Button
        small
        kind="primary"
        unavailable={unavailable}
        onClick={() =>
          send.mutate({ command: "accept_suggestion", arguments: { suggestion: suggestion.id } })
        }
      >
        Accept
      </Button>
    </section>
  );
}
