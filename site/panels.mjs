// The panels of examples/grafana-dashboard.json, and what tells whether a picture was made from them as they are now.
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";

const file = path.resolve(import.meta.dirname, "../examples/grafana-dashboard.json");

export function panels() {
  return JSON.parse(fs.readFileSync(file, "utf8")).panels;
}

/** What is shown of the panels; it stands in the picture as `data-panels`. */
export function fingerprint() {
  const shown = panels().map(({ type, title, gridPos, fieldConfig, targets }) => [
    ...[type, title, gridPos, fieldConfig?.defaults?.unit],
    targets?.map(({ expr, legendFormat }) => [expr, legendFormat]),
  ]);
  return createHash("sha256").update(JSON.stringify(shown)).digest("hex");
}
