// The handoff as a picture: time of the JavaScript thread by the size of the batch, both axes logarithmic.

const TITLE = "Event-loop time to hand over one batch of 5 columns";
const WIDTH = 720;
const HEIGHT = 360;
const LEFT = 70;
const RIGHT = 150;
const TOP = 40;
const BOTTOM = 50;
const WAYS = [
  ["ipc", "Arrow IPC", "#c2410c"],
  ["copy", "copied", "#2563eb"],
  ["pin", "pinned", "#15803d"],
];

/** @param rows Those of one number of columns, by size. */
export function picture(rows) {
  const x = scale(
    rows.map((row) => row.bytes),
    LEFT,
    WIDTH - RIGHT,
  );
  const times = rows.flatMap((row) => WAYS.map(([way]) => row.us[way]));
  const y = scale([...times, 1], HEIGHT - BOTTOM, TOP);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="13">`,
    `<title>${TITLE}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    text(LEFT, 22, TITLE, "start", "#111827", "bold"),
  ];
  for (const us of [1, 10, 100, 1_000, 10_000, 100_000]) {
    if (y(us) < TOP - 1) continue;
    parts.push(
      `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(us)}" y2="${y(us)}" stroke="#e5e7eb"/>`,
      text(LEFT - 8, y(us) + 4, us < 1_000 ? `${us} µs` : `${us / 1_000} ms`, "end", "#6b7280"),
    );
  }
  for (const { bytes } of rows)
    parts.push(text(x(bytes), HEIGHT - BOTTOM + 20, size(bytes), "middle", "#6b7280"));
  for (const [way, name, color] of WAYS) {
    const points = rows.map((row) => `${round(x(row.bytes))},${round(y(row.us[way]))}`);
    const last = rows.at(-1);
    parts.push(
      `<polyline points="${points.join(" ")}" fill="none" stroke="${color}" stroke-width="2.5"/>`,
      ...points.map(
        (point) =>
          `<circle cx="${point.split(",")[0]}" cy="${point.split(",")[1]}" r="3.5" fill="${color}"/>`,
      ),
      text(
        x(last.bytes) + 12,
        y(last.us[way]) + (way === "copy" ? 16 : 4),
        `${name}: ${time(last.us[way])}`,
        "start",
        color,
      ),
    );
  }
  return `${[...parts, "</svg>"].join("\n")}\n`;
}

function scale(values, from, to) {
  const low = Math.log10(Math.min(...values));
  const high = Math.log10(Math.max(...values));
  return (value) => from + ((Math.log10(value) - low) / (high - low)) * (to - from);
}

const text = (x, y, words, anchor, fill, weight = "normal") =>
  `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}" fill="${fill}" font-weight="${weight}">${words}</text>`;
const round = (number) => Math.round(number * 10) / 10;
const size = (bytes) => (bytes >= 2 ** 20 ? `${bytes / 2 ** 20} MiB` : `${bytes / 2 ** 10} KiB`);
const time = (us) => (us >= 1_000 ? `${round(us / 1_000)} ms` : `${round(us)} µs`);
