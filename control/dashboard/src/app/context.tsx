import { skipToken, useQuery, useQueryClient } from "@tanstack/react-query";
import {
  createContext,
  type ReactNode,
  useContext,
  useEffect,
  useMemo,
  useState,
  useSyncExternalStore,
} from "react";
import type { Api, Versions } from "../api/client";
import type { CommandRecord, FollowerInfo, RunDetail } from "../api/types";
import type { Observable } from "../live/observable";
import { keys, RunSession } from "../live/session";

interface Seat {
  api: Api;
  session: RunSession;
}

const SeatContext = createContext<Seat | undefined>(undefined);

/** Follows one run for everything below it. */
export function RunProvider({ api, run, children }: { api: Api; run: string; children: ReactNode }) {
  const cache = useQueryClient();
  const [session, setSession] = useState<RunSession>();
  useEffect(() => {
    const started = new RunSession(run, api, cache);
    setSession(started);
    started.start();
    return () => started.stop();
  }, [api, run, cache]);
  const seat = useMemo(() => (session ? { api, session } : undefined), [api, session]);
  return seat ? <SeatContext.Provider value={seat}>{children}</SeatContext.Provider> : null;
}

export function useSeat(): Seat {
  const seat = useContext(SeatContext);
  if (!seat) throw new Error("useSeat outside of a RunProvider");
  return seat;
}

export function useObservable<Value>(observable: Observable<Value>): Value {
  return useSyncExternalStore(observable.subscribe, observable.get);
}

/**
 * What the session has put into the cache. The query itself never runs: the session alone asks the server, for only it
 * knows which events are newer than an answer.
 */
function useTold<Value>(queryKey: readonly string[]): Value | undefined {
  return useQuery<Value>({ queryKey, enabled: false, queryFn: skipToken }).data;
}

/** The run as last heard of; undefined until its snapshot is here. */
export function useRun(): RunDetail | undefined {
  return useTold<RunDetail>(keys.run(useSeat().session.run));
}

const NO_COMMANDS: readonly CommandRecord[] = [];

/** Commands, newest first. */
export function useCommands(): readonly CommandRecord[] {
  return useTold<readonly CommandRecord[]>(keys.commands(useSeat().session.run)) ?? NO_COMMANDS;
}

/** Versions, newest first, and the channels that point at them. */
export function useVersions(): Versions | undefined {
  return useTold<Versions>(keys.versions(useSeat().session.run));
}

const NO_FOLLOWERS: readonly FollowerInfo[] = [];

/** Who serves which version. */
export function useFollowers(): readonly FollowerInfo[] {
  return useTold<readonly FollowerInfo[]>(keys.followers(useSeat().session.run)) ?? NO_FOLLOWERS;
}
