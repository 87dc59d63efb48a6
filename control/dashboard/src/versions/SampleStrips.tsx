import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import type { SampleInfo } from "../api/types";
import { useSeat } from "../app/context";
import type { Beside } from "./samples";

/** What a version paints, above each picture the same of the version before. */
export function SampleStrips({ beside: { version, before, pairs } }: { beside: Beside }) {
  return (
    <div className="samples">
      {pairs.map(({ now, before: last }) => (
        <figure key={now.label}>
          <figcaption>{now.label}</figcaption>
          {last && before !== undefined && <Strip sample={last} version={before} />}
          <Strip sample={now} version={version} />
        </figure>
      ))}
    </div>
  );
}

function Strip({ sample, version }: { sample: SampleInfo; version: number }) {
  const { address, problem } = usePicture(sample.sha256);
  const { width, height, label } = sample;
  return (
    <div className="strip">
      <span className="mono muted small">v{version}</span>
      {problem ? (
        <span className="problem">{problem}</span>
      ) : address ? (
        <img src={address} width={width} height={height} alt={`${label}, as version ${version} paints it`} />
      ) : (
        <span className="muted small">…</span>
      )}
    </div>
  );
}

/** The picture as an address that the page may show: a page cannot send its token with an image. */
function usePicture(sha256: string): { address: string | undefined; problem: string | undefined } {
  const { api } = useSeat();
  const { data, error } = useQuery({
    queryKey: ["sample", sha256],
    queryFn: () => api.sample(sha256),
    staleTime: Number.POSITIVE_INFINITY,
    retry: 1,
  });
  const [address, setAddress] = useState<string>();
  useEffect(() => {
    if (!data) return;
    const made = URL.createObjectURL(data);
    setAddress(made);
    return () => URL.revokeObjectURL(made);
  }, [data]);
  return { address, problem: error?.message };
}
