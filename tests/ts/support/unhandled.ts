// Rejections that nobody handles: Node ends the process at the first.

/** The reasons of those that come while `work` runs, and until the event loop has come round after it. */
export async function unhandled(work: () => Promise<unknown>): Promise<unknown[]> {
  const reasons: unknown[] = [];
  const note = (reason: unknown): void => void reasons.push(reason);
  process.on("unhandledRejection", note);
  try {
    await work();
    // Node looks for them when it has run all microtasks.
    await new Promise((resolve) => setTimeout(resolve, 1));
    await new Promise((resolve) => setImmediate(resolve));
  } finally {
    process.off("unhandledRejection", note);
  }
  return reasons;
}
