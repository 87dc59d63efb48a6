import { useState } from "react";
import { useCommandSpec, useSend } from "../commands/useSend";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { NumberField } from "../ui/NumberField";
import { brief, parseNumber } from "../ui/numbers";
import type { Layer } from "./tree";

const OPERATION = "model_layer_operation";
const PARAMETER = "model_layer_parameter_update";
const FREEZE = "requires_grad_";

/** What may be done to one layer: its allowed operations, and its numbers. */
export function LayerForm({ layer }: { layer: Layer }) {
  const send = useSend();
  const { unavailable } = useCommandSpec(OPERATION);
  const [asking, setAsking] = useState<string>();
  const full = layer.name || "the model";
  const operate = (operation: string, params: Record<string, unknown> = {}) =>
    send.mutate({
      command: OPERATION,
      arguments: { layer_name: layer.name, operation_name: operation, params },
    });
  return (
    <>
      <div className="row">
        {layer.operators.includes(FREEZE) && (
          <>
            <Button small unavailable={unavailable} onClick={() => operate(FREEZE, { requires_grad: false })}>
              Freeze
            </Button>
            <Button small unavailable={unavailable} onClick={() => operate(FREEZE, { requires_grad: true })}>
              Unfreeze
            </Button>
          </>
        )}
        {layer.operators
          .filter((name) => name !== FREEZE)
          .map((name) => (
            <Button key={name} small kind="danger" unavailable={unavailable} onClick={() => setAsking(name)}>
              {name.replaceAll("_", " ").trim()}
            </Button>
          ))}
      </div>
      {layer.hyperparameters.map(({ name, value }) => (
        <LayerNumber key={name} layer={layer.name} name={name} value={value} />
      ))}
      {asking && (
        <Dialog title={`${asking.replaceAll("_", " ")} of ${full}?`} onClose={() => setAsking(undefined)}>
          <p>
            What {full} has learned is replaced from the next step on. Save a checkpoint first, to be able to
            go back.
          </p>
          <div className="row end">
            <Button onClick={() => setAsking(undefined)}>Cancel</Button>
            <Button
              kind="danger"
              className="filled"
              onClick={() => {
                operate(asking);
                setAsking(undefined);
              }}
            >
              Do it
            </Button>
          </div>
        </Dialog>
      )}
    </>
  );
}

function LayerNumber({ layer, name, value }: { layer: string; name: string; value: number }) {
  const [text, setText] = useState("");
  const send = useSend();
  const { unavailable } = useCommandSpec(PARAMETER);
  const parsed = text === "" ? undefined : parseNumber(text);
  const wanted = parsed && "value" in parsed ? parsed.value : undefined;
  return (
    <form
      className="layer-number"
      onSubmit={(event) => {
        event.preventDefault();
        if (wanted === undefined || unavailable) return;
        send.mutate(
          { command: PARAMETER, arguments: { layer_name: layer, param_name: name, value: wanted } },
          { onSuccess: () => setText("") },
        );
      }}
    >
      <NumberField
        label={name}
        text={text}
        onText={setText}
        placeholder={brief(value)}
        hint={`in force: ${brief(value)}`}
        optional
      />
      <Button
        small
        type="submit"
        unavailable={unavailable ?? (wanted === undefined ? "Type a number first." : undefined)}
      >
        Set
      </Button>
    </form>
  );
}
