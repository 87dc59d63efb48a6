import { type KeyboardEvent, type ReactNode, useId, useRef } from "react";

export interface Tab<Name extends string> {
  name: Name;
  label: string;
  count?: number | undefined;
}

interface Props<Name extends string> {
  label: string;
  tabs: readonly Tab<Name>[];
  selected: Name;
  onSelect: (name: Name) => void;
  extra?: ReactNode;
  children: ReactNode;
}

/** Tabs by the book: one tab stop, arrow keys between tabs, the panel named by its tab. */
export function Tabs<Name extends string>({ label, tabs, selected, onSelect, extra, children }: Props<Name>) {
  const id = useId();
  const list = useRef<HTMLDivElement>(null);
  const move = (event: KeyboardEvent) => {
    const at = tabs.findIndex((tab) => tab.name === selected);
    const offset = { ArrowRight: 1, ArrowLeft: -1, Home: -at, End: tabs.length - 1 - at }[event.key];
    if (offset === undefined) return;
    event.preventDefault();
    const next = tabs[(at + offset + tabs.length) % tabs.length];
    if (!next) return;
    onSelect(next.name);
    list.current?.querySelector<HTMLElement>(`[data-tab="${next.name}"]`)?.focus();
  };
  return (
    <>
      <div className="row tab-row">
        <div className="tabs grow" role="tablist" aria-label={label} ref={list}>
          {tabs.map((tab) => (
            <button
              key={tab.name}
              type="button"
              role="tab"
              className="tab"
              id={`${id}-${tab.name}`}
              data-tab={tab.name}
              aria-selected={tab.name === selected}
              aria-controls={`${id}-panel`}
              tabIndex={tab.name === selected ? 0 : -1}
              onClick={() => onSelect(tab.name)}
              onKeyDown={move}
            >
              {tab.label}
              {tab.count !== undefined && tab.count > 0 && <span className="count">{tab.count}</span>}
            </button>
          ))}
        </div>
        {extra}
      </div>
      <div role="tabpanel" id={`${id}-panel`} aria-labelledby={`${id}-${selected}`} className="tab-panel">
        {children}
      </div>
    </>
  );
}
