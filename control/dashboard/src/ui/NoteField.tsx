import { useId } from "react";

/** Characters, as many as an agent gives, too. */
const LONGEST = 2000;

interface Props {
  note: string;
  onNote: (note: string) => void;
  /** A reason as somebody might give it here. */
  placeholder?: string;
}

/** Why somebody does what a form or a dialog sends. */
export function NoteField({ note, onNote, placeholder }: Props) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>
        Why <span className="muted">(kept in the record)</span>
      </label>
      <input
        id={id}
        className="input"
        value={note}
        maxLength={LONGEST}
        placeholder={placeholder}
        onChange={(event) => onNote(event.target.value)}
      />
    </div>
  );
}
