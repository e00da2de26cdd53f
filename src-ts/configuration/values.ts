// Text → a value of the kind that an option has.
//
// Text that is no such value stays as it is: whoever checks options says what is wrong with it, with its path.

import type { OptionFacts } from "./names.js";

/** A value, or what is wrong with the text in words that follow the option's path. */
export type Read = { readonly value: unknown } | { readonly fault: string };

export function readValue(option: OptionFacts | undefined, text: string): Read {
  const trimmed = text.trim();
  switch (option?.kind) {
    case "number":
    case "duration":
    case "bytes":
      return { value: /^[+-]?\d+(\.\d+)?$/.test(trimmed) ? Number(trimmed) : text };
    case "boolean":
      return { value: FLAGS.get(trimmed.toLowerCase()) ?? text };
    case "strings":
      return trimmed.startsWith("[") ? json(trimmed) : { value: items(text) };
    case "record":
    case "group":
      return trimmed.startsWith("{") ? json(trimmed) : shortOf(option, text);
    default:
      return { value: text };
  }
}

/** A value in the place of a group that it is short for. */
function shortOf({ short, kind }: OptionFacts, text: string): Read {
  if (short === undefined) return { fault: kind === "record" ? "must be a JSON object" : NO_GROUP };
  return { value: FLAGS.get(text.trim().toLowerCase()) ?? text.trim() };
}

const NO_GROUP = "must be a JSON object, or one variable for each of its options";
const FLAGS: ReadonlyMap<string, boolean> = new Map([
  ["true", true],
  ["false", false],
]);

const items = (text: string): string[] =>
  text
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");

function json(text: string): Read {
  try {
    return { value: JSON.parse(text) };
  } catch {
    // What JSON.parse says quotes the text, which may hold secrets.
    return { fault: "is not JSON" };
  }
}
