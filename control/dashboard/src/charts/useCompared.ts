import { useQuery } from "@tanstack/react-query";
import { useMemo, useRef } from "react";
import type { RunSummary } from "../api/types";
import { useSeat } from "../app/context";
import { MetricStore } from "../live/metrics";
import { requestFrame } from "./frames";

const EVERY = 3000;

/** Another run on the same charts: its name, the branch that it is on, and its points. */
export interface Compared {
  run: string;
  branch: string;
  store: MetricStore;
}

/** The points of other runs, each on its present branch and from that branch's beginning, asked for again and again. */
export function useCompared(names: readonly string[], runs: readonly RunSummary[]): readonly Compared[] {
  const { api } = useSeat();
  const stores = useRef(new Map<string, MetricStore>());
  const wanted = runs.filter(({ run }) => names.includes(run));
  const key = wanted.map(({ run, branch }) => `${run} ${branch}`).join("\n");
  useQuery({
    queryKey: ["compared", key],
    queryFn: async () => {
      const page = await api.compare(wanted.map(({ run }) => run));
      for (const { run, series } of page.runs)
        for (const each of series) storeOf(stores.current, run).replace(each);
      requestFrame();
      return page.seq;
    },
    enabled: wanted.length > 0,
    refetchInterval: EVERY,
    retry: false,
  });
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key says which runs and branches there are
  return useMemo(
    () => wanted.map(({ run, branch }) => ({ run, branch, store: storeOf(stores.current, run) })),
    [key],
  );
}

function storeOf(stores: Map<string, MetricStore>, run: string): MetricStore {
  const known = stores.get(run) ?? new MetricStore();
  stores.set(run, known);
  return known;
}
