// Whether a series of samples grows: its line, and whether chance would draw one as steep.

/** Of fewer points nothing can be said. */
export const FEWEST = 8;

/**
 * @param {[number, number][]} points time and value
 * @param {{ more: number, share: number }} tolerance growth over the whole time that is none: absolute, and as a share
 * of the median; the larger of both counts
 * @returns {{ first: number, last: number, significance: number, grows: boolean }} the line's ends
 */
export function trend(points, { more, share }) {
  if (points.length < FEWEST) throw new Error(`${points.length} samples say nothing of a trend`);
  const slope = middle(slopes(points));
  const level = middle(points.map(([time, value]) => value - slope * time));
  const [first, last] = [points[0][0], points.at(-1)[0]].map((time) => level + slope * time);
  const allowed = Math.max(more, share * Math.abs(middle(points.map(([, value]) => value))));
  const significance = mannKendall(points.map(([, value]) => value));
  // 3.09: one series of chance in a thousand.
  return { first, last, significance, grows: last - first > allowed && significance > 3.09 };
}

/** Theil and Sen: the middle slope of all pairs, which single outliers do not move. */
function slopes(points) {
  const all = [];
  for (let i = 0; i < points.length; i++)
    for (let j = i + 1; j < points.length; j++)
      if (points[j][0] !== points[i][0])
        all.push((points[j][1] - points[i][1]) / (points[j][0] - points[i][0]));
  return all;
}

/** How many standard deviations more pairs rise than fall. */
function mannKendall(values) {
  const n = values.length;
  let sum = 0;
  for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) sum += Math.sign(values[j] - values[i]);
  return sum / Math.sqrt((n * (n - 1) * (2 * n + 5)) / 18);
}

function middle(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
