import { useSyncExternalStore } from "react";
import { Button } from "./Button";
import { Icon } from "./Icon";
import { dismiss, toasts } from "./toasts";

export function Toasts() {
  const shown = useSyncExternalStore(toasts.subscribe, toasts.get);
  return (
    <div className="toasts" role="status" aria-live="polite">
      {shown.map(({ id, tone, title, detail }) => (
        <div key={id} className={`toast ${tone}`}>
          <div className="grow">
            <strong>{title}</strong>
            {detail && <div className="muted">{detail}</div>}
          </div>
          <Button kind="ghost" small aria-label="Dismiss" onClick={() => dismiss(id)}>
            <Icon name="close" size={12} />
          </Button>
        </div>
      ))}
    </div>
  );
}
