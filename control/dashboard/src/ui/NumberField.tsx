import { useId } from "react";
import { type Bounds, parseNumber } from "./numbers";

interface Props {
  label: string;
  text: string;
  onText: (text: string) => void;
  bounds?: Bounds;
  hint?: string;
  placeholder?: string | undefined;
  /** An empty field is allowed: it means "leave it as it is". */
  optional?: boolean;
}

/** Free text in, a number out: what was typed is never changed, and what is wrong with it is said. */
export function NumberField({ label, text, onText, bounds, hint, placeholder, optional }: Props) {
  const id = useId();
  const parsed = text === "" && optional ? undefined : parseNumber(text, bounds);
  const problem = text !== "" && parsed && "problem" in parsed ? parsed.problem : undefined;
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <input
        id={id}
        className="input mono"
        inputMode="text"
        autoComplete="off"
        spellCheck={false}
        value={text}
        placeholder={placeholder}
        aria-invalid={problem ? true : undefined}
        aria-describedby={`${id}-note`}
        onChange={(event) => onText(event.target.value)}
      />
      <span id={`${id}-note`} className={problem ? "problem" : "hint"}>
        {problem ?? hint}
      </span>
    </div>
  );
}
