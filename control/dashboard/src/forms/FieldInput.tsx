import { useId } from "react";
import type { Field } from "./fields";

interface Props {
  field: Field;
  text: string;
  problem: string | undefined;
  onText: (text: string) => void;
}

/** One argument: a choice where there is one, else free text of which what is wrong is said. */
export function FieldInput({ field, text, problem, onText }: Props) {
  const id = useId();
  const common = {
    id,
    value: text,
    "aria-invalid": problem ? true : undefined,
    "aria-describedby": `${id}-note`,
    "aria-required": field.required || undefined,
  } as const;
  const choices =
    field.kind === "boolean" ? ["true", "false"] : field.choices.map((choice) => String(choice));
  const usual = field.fallback ? `as it is: ${field.fallback}` : field.required ? "choose" : "leave it out";
  return (
    <div className="field">
      <label htmlFor={id}>
        {field.title} {field.required && <span className="muted">(needed)</span>}
      </label>
      {field.kind === "boolean" || field.kind === "choice" ? (
        <select {...common} className="input" onChange={(event) => onText(event.target.value)}>
          <option value="">{usual}</option>
          {choices.map((choice) => (
            <option key={choice}>{choice}</option>
          ))}
        </select>
      ) : field.kind === "json" ? (
        <textarea
          {...common}
          className="input mono"
          rows={3}
          spellCheck={false}
          placeholder={field.fallback || "JSON"}
          onChange={(event) => onText(event.target.value)}
        />
      ) : (
        <input
          {...common}
          className={field.kind === "text" ? "input" : "input mono"}
          autoComplete="off"
          spellCheck={false}
          placeholder={field.fallback}
          onChange={(event) => onText(event.target.value)}
        />
      )}
      <span id={`${id}-note`} className={problem ? "problem" : "hint"}>
        {problem ?? field.hint}
      </span>
    </div>
  );
}
