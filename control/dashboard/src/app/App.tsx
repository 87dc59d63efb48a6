import { QueryClient, QueryClientProvider, useQuery } from "@tanstack/react-query";
import { useCallback, useMemo, useState } from "react";
import { Api, ApiError } from "../api/client";
import { forgetToken, storedToken } from "../api/token";
import { keys } from "../live/session";
import { Button } from "../ui/Button";
import { Icon } from "../ui/Icon";
import { RunProvider } from "./context";
import { Gate } from "./Gate";
import { Shell } from "./Shell";
import { type Theme, useTheme } from "./theme";

const RUNS_EVERY = 5000;

export function App() {
  const [theme, switchTheme] = useTheme();
  const [token, setToken] = useState(storedToken);
  const [refused, setRefused] = useState(false);
  const leave = useCallback((wasRefused: boolean) => {
    forgetToken();
    setRefused(wasRefused);
    setToken(null);
  }, []);
  // With another token nothing of the one before is kept.
  const seat = useMemo(
    () =>
      token === null
        ? undefined
        : { api: new Api(token), cache: new QueryClient({ defaultOptions: { queries: { retry: false } } }) },
    [token],
  );
  if (!seat) return <Gate key={String(refused)} refused={refused} onEnter={setToken} />;
  return (
    <QueryClientProvider client={seat.cache}>
      <Runs api={seat.api} theme={theme} onTheme={switchTheme} onLeave={leave} />
    </QueryClientProvider>
  );
}

interface RunsProps {
  api: Api;
  theme: Theme;
  onTheme: () => void;
  onLeave: (refused: boolean) => void;
}

function Runs({ api, theme, onTheme, onLeave }: RunsProps) {
  const { data: runs, error } = useQuery({
    queryKey: keys.runs,
    queryFn: () => api.runs(),
    refetchInterval: RUNS_EVERY,
  });
  const [wanted, setWanted] = useState(() => runInAddress());
  const refuse = useCallback(() => onLeave(true), [onLeave]);
  const leave = useCallback(() => onLeave(false), [onLeave]);
  if (error instanceof ApiError && error.unauthorised && !runs) {
    return <Refused onLeave={refuse} />;
  }
  const run = runs?.find(({ run: name }) => name === wanted) ?? runs?.[0];
  if (!run || !runs) return <Waiting problem={error?.message} empty={runs !== undefined} onLeave={leave} />;
  const choose = (name: string) => {
    window.history.replaceState(null, "", `#run=${encodeURIComponent(name)}`);
    setWanted(name);
  };
  // The first run stays the one that is shown when another one becomes the newest.
  if (wanted !== run.run) setWanted(run.run);
  return (
    <RunProvider key={run.run} api={api} run={run.run}>
      <Shell runs={runs} onRun={choose} theme={theme} onTheme={onTheme} onLeave={leave} onRefused={refuse} />
    </RunProvider>
  );
}

function runInAddress(): string | undefined {
  const match = /(?:^#|&)run=([^&]*)/.exec(window.location.hash);
  return match?.[1] === undefined ? undefined : decodeURIComponent(match[1]);
}

function Refused({ onLeave }: { onLeave: () => void }) {
  return (
    <main className="gate">
      <div className="card gate-card">
        <h1>This token opens nothing here</h1>
        <p className="muted">It is unknown, was revoked, or may not read. Another one may.</p>
        <Button kind="primary" onClick={onLeave}>
          Enter another token
        </Button>
      </div>
    </main>
  );
}

function Waiting({
  problem,
  empty,
  onLeave,
}: {
  problem: string | undefined;
  empty: boolean;
  onLeave: () => void;
}) {
  return (
    <main className="gate">
      <div className="card gate-card" role="status">
        <span className="gate-mark">
          <Icon name="flame" size={34} />
        </span>
        {problem ? (
          <>
            <h1>The control server does not answer</h1>
            <p className="muted">This page tries again by itself. {problem}</p>
          </>
        ) : empty ? (
          <>
            <h1>No run yet</h1>
            <p className="muted">
              Start one with <code>stovetop up</code>, or <code>trainer.train()</code> in a script of yours;
              it shows here by itself.
            </p>
          </>
        ) : (
          <h1>Loading</h1>
        )}
        <Button kind="ghost" onClick={onLeave}>
          Leave
        </Button>
      </div>
    </main>
  );
}
