import { useEffect, useRef, useState } from "react";
import { AgentPanel } from "../agents/AgentPanel";
import type { RunSummary } from "../api/types";
import { ChartGrid } from "../charts/ChartGrid";
import { CheckpointPanel } from "../checkpoints/CheckpointPanel";
import { CommandLog } from "../commands/CommandLog";
import { takeOutcomes } from "../commands/outcomes";
import { CommandPanel } from "../forms/CommandPanel";
import { EventLog } from "../log/EventLog";
import { MixturePanel } from "../mixture/MixturePanel";
import { ModelPanel } from "../model/ModelPanel";
import { OptimizerPanel } from "../optimizer/OptimizerPanel";
import { RunHeader } from "../run/RunHeader";
import { Button } from "../ui/Button";
import { type Tab, Tabs } from "../ui/Tabs";
import { Toasts } from "../ui/Toasts";
import { toast } from "../ui/toasts";
import { VersionPanel } from "../versions/VersionPanel";
import { Way } from "../way/Way";
import { useCommands, useObservable, useRun, useSeat } from "./context";
import { HelpDialog } from "./HelpDialog";
import { isBoolean, usePersistent } from "./persistent";
import { StatusBar } from "./StatusBar";
import { useShortcuts } from "./shortcuts";
import type { Theme } from "./theme";

type Panel = "mixture" | "optimizer" | "model" | "checkpoints" | "versions" | "agents" | "more";
type Log = "commands" | "events";
/** What a phone shows; wider screens show all three. */
type View = "charts" | "knobs" | "log";

const VIEWS: readonly [View, string][] = [
  ["charts", "Charts"],
  ["knobs", "Knobs"],
  ["log", "Log"],
];

const PANELS: readonly Tab<Panel>[] = [
  { name: "mixture", label: "Mixture" },
  { name: "optimizer", label: "Optimizer" },
  { name: "model", label: "Model" },
  { name: "checkpoints", label: "Checkpoints" },
  { name: "versions", label: "Versions" },
  { name: "agents", label: "Agents" },
  { name: "more", label: "More" },
];

interface Props {
  runs: readonly RunSummary[];
  onRun: (run: string) => void;
  theme: Theme;
  onTheme: () => void;
  onLeave: () => void;
  onRefused: () => void;
}

export function Shell({ runs, onRun, theme, onTheme, onLeave, onRefused }: Props) {
  const { session } = useSeat();
  const [panel, setPanel] = useState<Panel>("mixture");
  const [log, setLog] = useState<Log>("commands");
  const [view, setView] = useState<View>("charts");
  const [help, setHelp] = useState(false);
  const [keysAct, setKeysAct] = usePersistent("single-keys", true, isBoolean);
  const search = useRef<HTMLInputElement>(null);
  const link = useObservable(session.link);
  useAnnouncements();
  useEffect(() => {
    if (link.state === "refused") onRefused();
  }, [link, onRefused]);

  useShortcuts(
    {
      p: () => press("pause_training", "resume_training"),
      s: () => press("save_checkpoint"),
      e: () => press("do_evaluate"),
      "?": () => setHelp(true),
      "/": () => {
        setLog("commands");
        setView("log");
        requestAnimationFrame(() => search.current?.focus());
      },
      ...Object.fromEntries(PANELS.map(({ name }, index) => [String(index + 1), () => setPanel(name)])),
    },
    keysAct,
  );

  return (
    <div className="shell" data-view={view}>
      <StatusBar
        runs={runs}
        run={session.run}
        onRun={onRun}
        theme={theme}
        onTheme={onTheme}
        onHelp={() => setHelp(true)}
        onLeave={onLeave}
      />
      <main>
        <RunHeader />
        <Way />
        <div className="columns">
          <aside className="card knobs" aria-label="Knobs">
            <Tabs label="Knobs" tabs={PANELS} selected={panel} onSelect={setPanel}>
              {panel === "mixture" && <MixturePanel />}
              {panel === "optimizer" && <OptimizerPanel />}
              {panel === "model" && <ModelPanel />}
              {panel === "checkpoints" && <CheckpointPanel />}
              {panel === "versions" && <VersionPanel />}
              {panel === "agents" && <AgentPanel />}
              {panel === "more" && <CommandPanel />}
            </Tabs>
          </aside>
          <ChartGrid theme={theme} runs={runs} />
        </div>
        <section className="card console" aria-label="Log">
          <LogTabs selected={log} onSelect={setLog}>
            {log === "commands" ? <CommandLog search={search} /> : <EventLog />}
          </LogTabs>
        </section>
      </main>
      <nav className="view-switch" aria-label="View">
        {VIEWS.map(([name, label]) => (
          <Button key={name} aria-pressed={view === name} onClick={() => setView(name)}>
            {label}
          </Button>
        ))}
      </nav>
      <Toasts />
      {help && <HelpDialog enabled={keysAct} onEnabled={setKeysAct} onClose={() => setHelp(false)} />}
    </div>
  );
}

function LogTabs({
  selected,
  onSelect,
  children,
}: {
  selected: Log;
  onSelect: (log: Log) => void;
  children: React.ReactNode;
}) {
  const commands = useCommands();
  const { session } = useSeat();
  const events = useObservable(session.log);
  const tabs: readonly Tab<Log>[] = [
    { name: "commands", label: "Commands", count: commands.length },
    { name: "events", label: "Events", count: events.length },
  ];
  return (
    <Tabs label="Log" tabs={tabs} selected={selected} onSelect={onSelect}>
      {children}
    </Tabs>
  );
}

/** Says what came of the commands that were sent from this tab, and puts the run's state into the tab's title. */
function useAnnouncements(): void {
  const commands = useCommands();
  const run = useRun();
  useEffect(() => {
    for (const message of takeOutcomes(commands)) toast(message);
  }, [commands]);
  const title = run
    ? `${run.status === "running" ? "" : `${run.status} · `}${run.run} · Stovetop`
    : "Stovetop";
  useEffect(() => {
    document.title = title;
  }, [title]);
}

/** A key does what the button does, and only while the button is there and can be used. */
function press(...actions: string[]): void {
  for (const action of actions) {
    document
      .querySelector<HTMLButtonElement>(`[data-action="${action}"]:not([aria-disabled="true"])`)
      ?.click();
  }
}
