import { type ComponentPropsWithoutRef, useId } from "react";

interface Props extends Omit<ComponentPropsWithoutRef<"button">, "disabled"> {
  kind?: "plain" | "primary" | "danger" | "ghost";
  small?: boolean;
  /** Why the button cannot be used now. It stays focusable, so that the reason can be read by everyone. */
  unavailable?: string | undefined;
}

export function Button({ kind = "plain", small, unavailable, onClick, className = "", ...rest }: Props) {
  const reason = useId();
  const classes = ["button", kind, small ? "small" : "", className].filter(Boolean).join(" ");
  return (
    <>
      <button
        type="button"
        {...rest}
        className={classes}
        title={unavailable ?? rest.title}
        aria-disabled={unavailable ? true : undefined}
        aria-describedby={unavailable ? reason : rest["aria-describedby"]}
        onClick={(event) => {
          if (unavailable) event.preventDefault();
          else onClick?.(event);
        }}
      />
      {unavailable && (
        <span id={reason} className="visually-hidden">
          {unavailable}
        </span>
      )}
    </>
  );
}
