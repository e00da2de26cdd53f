// Reads a Delta table the long way round, with nothing of arrow-ingest and nothing of Arrow or Rust: the log
// is JSON, and the Parquet files that it lists are read by hyparquet, which is plain JavaScript.
import * as fs from "node:fs";
import * as path from "node:path";
import { asyncBufferFromFile, parquetMetadataAsync, parquetRead } from "hyparquet";
import { compressors } from "hyparquet-compressors";

/** Calls `onColumn(name, values)` for each column chunk; gives the commits, files and rows of the table. */
export async function readBack(table, onColumn) {
  const log = path.join(table, "_delta_log");
  const commits = fs.readdirSync(log).filter((name) => /^\d{20}\.json$/.test(name));
  const live = new Set();
  for (const name of commits.sort()) {
    for (const line of fs.readFileSync(path.join(log, name), "utf8").trim().split("\n")) {
      const action = JSON.parse(line);
      if (action.add) live.add(decodeURIComponent(action.add.path));
      if (action.remove) live.delete(decodeURIComponent(action.remove.path));
    }
  }
  let rows = 0;
  for (const name of live) {
    const file = await asyncBufferFromFile(path.join(table, name));
    const metadata = await parquetMetadataAsync(file);
    rows += Number(metadata.num_rows);
    await parquetRead({
      file,
      metadata,
      compressors,
      onChunk: ({ columnName, columnData }) => onColumn(columnName, columnData),
    });
  }
  return { commits: commits.length, files: live.size, rows };
}

/** Sums that come out the same in whichever order the rows are read. */
export class Sums {
  delay = 0;
  distance = 0;
  nulls = 0;
  origins = {};
  seconds = 0;

  add(column, values) {
    for (const value of values) {
      if (value === null || value === undefined) this.nulls++;
      else if (column === "delay") this.delay += Number(value);
      else if (column === "distance") this.distance += Number(value);
      else if (column === "origin") this.origins[value] = (this.origins[value] ?? 0) + 1;
      // One library gives milliseconds as a number, the other a Date.
      else if (column === "date") this.seconds += Math.floor(Number(value) / 1000);
    }
  }
}
