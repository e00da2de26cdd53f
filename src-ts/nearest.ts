// An unknown name → the known name that was probably meant, and the words of that suggestion.
//
// Invariant: a suggestion differs from what was given by at most two mistakes of typing.

/** The nearest of `names`, if one is so near that it was meant: it takes one or two mistakes of typing. */
export function nearest(given: string, names: readonly string[]): string | undefined {
  const lower = given.toLowerCase();
  for (const edits of [1, 2]) {
    // Of a shorter name nothing would have to be left.
    const found = names.find((name) => name.length > edits && isNear(lower, name.toLowerCase(), edits));
    if (found !== undefined) return found;
  }
  return undefined;
}

/** To be put behind what is wrong; nothing where there is no suggestion. */
export const didYouMean = (suggestion: string | undefined): string =>
  suggestion === undefined ? "" : ` (did you mean ${suggestion}?)`;

/** Whether so many letters added, left out or replaced, or neighbours swapped, make one word of the other. */
function isNear(a: string, b: string, edits: number): boolean {
  if (a === b) return true;
  if (edits === 0) return false;
  if (a !== "" && a[0] === b[0]) return isNear(a.slice(1), b.slice(1), edits);
  return (
    isNear(a.slice(1), b, edits - 1) ||
    isNear(a, b.slice(1), edits - 1) ||
    isNear(a.slice(1), b.slice(1), edits - 1) ||
    (a[0] === b[1] && a[1] === b[0] && isNear(a.slice(2), b.slice(2), edits - 1))
  );
}
