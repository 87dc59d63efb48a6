import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";

const KEYS: readonly [string, string][] = [
  ["p", "pause, or resume"],
  ["s", "save a checkpoint"],
  ["e", "evaluate"],
  ["1 – 7", "mixture, optimizer, model, checkpoints, versions, agents, more"],
  ["/", "filter the commands"],
  ["?", "this list"],
  ["← →", "read a chart that has the focus, with Shift in larger strides"],
  ["Esc", "show all steps of the charts; close a dialog"],
];

interface Props {
  enabled: boolean;
  onEnabled: (enabled: boolean) => void;
  onClose: () => void;
}

export function HelpDialog({ enabled, onEnabled, onClose }: Props) {
  return (
    <Dialog title="Keyboard" onClose={onClose}>
      <dl className="keys">
        {KEYS.map(([key, does]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
      <label className="row">
        <input type="checkbox" checked={enabled} onChange={(event) => onEnabled(event.target.checked)} />
        Single keys act (switch this off if they get in the way of your screen reader)
      </label>
      <div className="row end">
        <Button kind="primary" onClick={onClose}>
          Close
        </Button>
      </div>
    </Dialog>
  );
}
