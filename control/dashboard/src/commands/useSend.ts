import { useMutation } from "@tanstack/react-query";
import type { NewCommand } from "../api/client";
import type { ActorCommand, CommandRecord } from "../api/types";
import { useRun, useSeat } from "../app/context";
import { toast } from "../ui/toasts";
import { watchOutcome } from "./outcomes";
import { wish } from "./words";

/** Sends a command and shows it at once; its outcome is announced when the trainer has said it. */
export function useSend() {
  const { api, session } = useSeat();
  return useMutation<CommandRecord, Error, NewCommand>({
    mutationFn: (command) => api.send(session.run, command),
    onSuccess: (record) => {
      session.tell(record);
      watchOutcome(record.uuid);
    },
    onError: (error, { command, arguments: args }) =>
      toast({ tone: "bad", title: `${wish(command, args)}: not sent`, detail: error.message }),
  });
}

/** What a run's actors say about a command: its schema, and why it cannot be sent, if so. */
export function useCommandSpec(name: string): {
  entry: ActorCommand | undefined;
  unavailable: string | undefined;
} {
  const run = useRun();
  const entry = run?.commands.find(({ spec }) => spec.name === name);
  if (!run) return { entry, unavailable: "The run is still being loaded." };
  if (!entry) return { entry, unavailable: `Nobody connected to this run takes the command ${name}.` };
  return { entry, unavailable: undefined };
}
