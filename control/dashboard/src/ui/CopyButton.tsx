import { useState } from "react";
import { Button } from "./Button";
import { Icon } from "./Icon";
import { toast } from "./toasts";

/** Copies a text and says so. Where the browser gives no clipboard (plain HTTP on another host), it shows the text. */
export function CopyButton({ text, label }: { text: string; label: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
      setTimeout(() => setCopied(false), 1500);
    } catch {
      toast({ tone: "calm", title: "No clipboard here; the line is:", detail: text });
    }
  };
  return (
    <Button
      kind="ghost"
      small
      onClick={() => void copy()}
      aria-label={copied ? "Copied" : `CLI: ${label}`}
      title={text}
    >
      <Icon name={copied ? "check" : "copy"} size={13} />
      {copied ? "Copied" : "CLI"}
    </Button>
  );
}
