// The bar of the case `growth`: how much more an item may cost among ten times as many.

/**
 * @param {Record<string, readonly { count: number, over: number | null }[]>} results by case; `over` is the cost of an
 * item over that of the row before
 * @param {number} limit
 * @returns {string[]} a line for each row that is over it
 */
export function failures(results, limit) {
  return Object.entries(results).flatMap(([name, rows]) =>
    rows
      .filter(({ over }) => over !== null && over > limit)
      .map(
        ({ count, over }) =>
          `${name}, ${count.toLocaleString("en")} items: ${over?.toFixed(2)} × the row before, at most ${limit} ×`,
      ),
  );
}
