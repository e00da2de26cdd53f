import type { DeliveryContent } from "../../../dist/handoff.js";
import { toContent } from "../../../dist/source.js";

/** What one delivery of an Arrow input holds. */
export function contentOf(input: unknown): DeliveryContent {
  const content = toContent(input, { operation: "send", schema: undefined, signal: undefined });
  if ("then" in content) throw new Error("the input takes time: echoOf waits for it");
  return content;
}
