const WORDS: Readonly<Record<string, string>> = {
  policy: "on schedule",
  command: "asked for",
  strategy: "by the Trainer",
  termination: "before its process ended",
  retention: "older than those that are kept",
};

/** Why a checkpoint was saved or deleted, in words for people; a reason of a package's own stays as it is. */
export function whyInWords(reason: string): string {
  return WORDS[reason] ?? reason.replaceAll("_", " ");
}
