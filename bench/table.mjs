// Results as Markdown.

export function table({ date, machine, cases }) {
  const lines = [
    `# ${date}`,
    "",
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.system}, Node ${machine.node}. Medians; compare ratios, not times.`,
  ];
  if (cases.import) {
    const { runs, arrowMs, oursMs, beyondMs, arrowCpuMs, oursCpuMs, failed } = cases.import;
    lines.push("", `## Import: median of ${runs} processes each`, "");
    lines.push("| | ms | ms of CPU |", "|---|---|---|");
    for (const [name, ms, cpuMs] of [
      ["`apache-arrow`", arrowMs, arrowCpuMs],
      ["`arrow-ingest`", oursMs, oursCpuMs],
      ["beyond it", beyondMs, oursCpuMs - arrowCpuMs],
    ])
      lines.push(`| ${name} | ${ms.toFixed(1)} | ${cpuMs.toFixed(1)} |`);
    lines.push("", bars(failed));
  }
  if (cases.handoff) {
    lines.push("", "## Handoff: time of the JavaScript thread per batch", "");
    lines.push(
      "| batch | columns | pinned | pinned, a batch sent before | pinned, caches emptied before | of it, reading the batch's fields | pinned, after a pause of 50 ms | copied | IPC | IPC ÷ pinned | IPC ÷ copied |",
      "|---|---|---|---|---|---|---|---|---|---|---|",
    );
    for (const row of cases.handoff.rows) {
      const { pin, copy, ipc } = row.us;
      lines.push(
        `| ${size(row.bytes)} | ${row.columns.toLocaleString("en")} | ${time(pin)} | ${time(row.pinAgainUs)} | ${time(row.pinColdUs)} | ${time(row.readColdUs)} | ${time(row.pinAfterPauseUs)} | ${time(copy)} | ${time(ipc)} | ${ratio(row.ipcOverPin)} | ${ratio(row.ipcOverCopy)} |`,
      );
    }
  }
  if (cases.delta) {
    const { delta } = cases;
    lines.push("", "## Delta: three million flights", "");
    lines.push("| | seconds |", "|---|---|");
    lines.push(`| arrow-ingest, from JavaScript, synced to disk | ${delta.oursSeconds.toFixed(3)} |`);
    lines.push(
      `| \`write_deltalake\`, from Python, synced to disk afterwards | ${delta.peerSyncedSeconds.toFixed(3)} |`,
    );
    lines.push(`| \`write_deltalake\`, from Python, not synced | ${delta.peerSeconds.toFixed(3)} |`);
    lines.push(
      "",
      `${ratio(delta.oursOverPeerSynced)} its throughput for the same promise, ${ratio(delta.oursOverPeer)} without; ${delta.oursMegabytesPerSecond.toFixed(0)} MB/s of Arrow data.`,
    );
  }
  if (cases.files) lines.push(...files(cases.files));
  if (cases["delta-scale"]) lines.push(...deltaScale(cases["delta-scale"]));
  if (cases.flight) lines.push(...flight(cases.flight));
  if (cases.zerobus) lines.push(...zerobus(cases.zerobus));
  if (cases.spool) lines.push(...spool(cases.spool));
  if (cases.spooling) lines.push(...spooling(cases.spooling));
  if (cases.loop) {
    lines.push("", "## Event-loop delay while 10 MB batches stream", "");
    lines.push("| to | p50 | p99 | max | MB/s |", "|---|---|---|---|---|");
    for (const [name, row] of Object.entries(cases.loop)) {
      lines.push(
        `| ${name} | ${row.p50Ms.toFixed(2)} ms | ${row.p99Ms.toFixed(2)} ms | ${row.maxMs.toFixed(2)} ms | ${row.megabytesPerSecond.toFixed(0)} |`,
      );
    }
  }
  if (cases.memory) {
    lines.push("", "## Peak memory while ten times the budget streams", "");
    lines.push("| to | budget | streamed | above the start |", "|---|---|---|---|");
    for (const [name, row] of Object.entries(cases.memory)) {
      lines.push(
        `| ${name} | ${row.budgetMiB} MiB | ${row.streamedMiB} MiB | ${row.aboveMiB.toFixed(0)} MiB |`,
      );
    }
  }
  if (cases.growth) {
    lines.push("", "## Growth: what one item costs among many", "");
    lines.push("| | items | each | ÷ the row before | longest turn of the event loop |");
    lines.push("|---|---|---|---|---|");
    const { results, failed } = cases.growth;
    for (const [name, rows] of Object.entries(results))
      for (const row of rows) {
        const over = row.over === null ? "" : ratio(row.over);
        const turn = row.longestTurnMs === undefined ? "" : `${row.longestTurnMs} ms`;
        lines.push(`| ${name} | ${row.count.toLocaleString("en")} | ${time(row.us)} | ${over} | ${turn} |`);
      }
    const callers = Object.values(results)
      .flat()
      .filter((row) => row.bytesPerCaller !== undefined);
    const bytes = callers.at(-1)?.bytesPerCaller;
    if (bytes !== undefined)
      lines.push("", `A caller who waits for the budget takes ${bytes} bytes of memory.`);
    lines.push("", bars(failed));
  }
  if (cases.rows) lines.push(...rows(cases.rows));
  if (cases.service) lines.push(...service(cases.service));
  if (cases.telemetry) {
    lines.push("", "## Telemetry: throughput with it, as a share of that without", "");
    lines.push(
      "| to | batch | batches a second, without | metrics | metrics and spans | the same by CPU |",
      "|---|---|---|---|---|---|",
    );
    for (const row of cases.telemetry.rows)
      lines.push(
        `| ${row.target} | ${row.batch} | ${Math.round(row.batchesPerSecond).toLocaleString("en")} | ${(row.metricsOverOff * 100).toFixed(1)} % | ${(row.allOverOff * 100).toFixed(1)} % | ${(row.allOverOffByCpu * 100).toFixed(1)} % |`,
      );
    lines.push("", bars(cases.telemetry.failed));
  }
  return `${lines.join("\n")}\n`;
}

function rows({ results, failed }) {
  const lines = ["", "## Rows: to acknowledged by `discard:`, for each second of the JavaScript thread", ""];
  lines.push(
    "| | ours, rows/s | ÷ `vectorFromArray` | ÷ `tableFromJSON` | ÷ a loop by hand |",
    "|---|---|---|---|---|",
  );
  const { wrong, "one row at a time": oneByOne, ...cases } = results;
  for (const [name, { rates, over }] of Object.entries(cases)) {
    const ratios = [over.builders, over.json, over.hand].map((one) => (one === undefined ? "" : ratio(one)));
    lines.push(`| ${name} | ${rates.ours.toLocaleString("en")} | ${ratios.join(" | ")} |`);
  }
  lines.push(
    "",
    "| rows, none of which fits | each | p99 of a turn of the event loop, CPU |",
    "|---|---|---|",
  );
  for (const [count, { us, p99Ms }] of Object.entries(wrong))
    lines.push(`| ${Number(count).toLocaleString("en")} | ${time(us)} | ${p99Ms.toFixed(1)} ms |`);
  lines.push("", "| one row at a time | rows/s |", "|---|---|");
  const calls = {
    write: "`write(row)`, awaited where it says so",
    awaited: "`await write(row)`",
    send: "`send(row)`, with its outcome",
    sendAll: "`sendAll(rows)`",
  };
  for (const [name, call] of Object.entries(calls))
    lines.push(`| ${call} | ${oneByOne.rates[name].toLocaleString("en")} |`);
  lines.push("", bars(failed));
  return lines;
}

function service({ rate, seconds, turns, connections, load, ours, plain, over, failed }) {
  const lines = ["", "## Example 06: an event answered when it is on the disk", ""];
  lines.push(
    `${rate.toLocaleString("en")} requests a second over ${connections} connections, from a process of its own (${(ours.cpuShare * 100).toFixed(0)} % of a core), for ${seconds} s each; ${turns} turns; load of the machine ${load.toFixed(1)}, afterwards. Times from when a request is due.`,
    "",
    "| | p50 | p99 | longest |",
    "|---|---|---|---|",
  );
  const name = {
    ours: "the example, spool synced, into a Delta table",
    plain: "a server that parses and answers",
  };
  for (const [key, row] of Object.entries({ ours, plain }))
    lines.push(
      `| ${name[key]} | ${row.p50Ms.toFixed(2)} ms | ${row.p99Ms.toFixed(2)} ms | ${row.maxMs.toFixed(0)} ms |`,
    );
  lines.push(`| the first ÷ the second | ${ratio(over.p50)} | ${ratio(over.p99)} | |`, "", bars(failed));
  return lines;
}

function files({ json, csv, parquet, turns, load }) {
  const lines = ["", "## JSON, CSV and Parquet", ""];
  lines.push(`Medians of ${turns} turns; load of the machine ${load.toFixed(1)}, afterwards.`, "");
  lines.push(
    "| | ours in Rust ÷ the plain reader | ÷ the reader with equal checks | `sendBytes` to `discard:` ÷ the latter | MB/s | event loop p99 | memory above the start |",
    "|---|---|---|---|---|---|---|",
  );
  for (const [name, row] of Object.entries({ "NDJSON, arrow-json": json, "CSV, arrow-csv": csv }))
    lines.push(
      `| ${name} | ${ratio(row.oursOverPlain)} | ${ratio(row.oursOverChecked)} | ${ratio(row.clientOverChecked)} | ${row.megabytesPerSecond.toFixed(0)} | ${row.p99Ms.toFixed(2)} ms | ${row.aboveMiB.toFixed(0)} MiB |`,
    );
  lines.push(
    "",
    `Parquet to Delta, three million flights: the command line takes ${parquet.oursSeconds.toFixed(2)} s, \`write_deltalake\` of what \`pyarrow.parquet\` reads ${parquet.peerSeconds.toFixed(2)} s, both with the start of their process: ${ratio(parquet.oursOverPeer)} its speed.`,
  );
  return lines;
}

function spooling({ throughput, away, full, turns, load }) {
  const rows = Object.entries(throughput).map(([size, row]) => [
    `${size} batches through a synced spool into \`discard:\`, throughput ÷ a loop of \`write\` and \`fdatasync\``,
    `${ratio(row.overPlain)} (${row.megabytesPerSecond.toFixed(0)} MB/s; event-loop delay p99 ${row.loopDelayP99Ms.toFixed(1)} ms)`,
  ]);
  rows.push(
    [
      `${away.batches.toLocaleString("en")} batches with the destination away: memory grows by, with a budget of ${away.budgetMiB} MiB`,
      `${away.grownMiB.toFixed(0)} MiB (${(away.spooledBytes / 1e6).toFixed(0)} MB on the disk; p50 of the last 500 ÷ the first 500: ${ratio(away.lastOverFirst)})`,
    ],
    [
      "1 GB in the spool: `connect`; first acknowledgement",
      `${full.connectMs.toFixed(0)} ms; ${full.firstMs.toFixed(0)} ms`,
    ],
  );
  const lines = ["", "## Spool: through the client", ""];
  lines.push(
    `Medians of ${turns} turns; load of the machine ${load.toFixed(1)}, afterwards.`,
    "",
    "| | |",
    "|---|---|",
  );
  for (const row of rows) lines.push(`| ${row.join(" | ")} |`);
  return lines;
}

function spool({ appends, small, waiting, opening, segments, turns, load }) {
  const rows = Object.entries(appends).map(([name, row]) => {
    const [, durability, size] = name.match(/^(synced|written)(\d+)MiB/);
    const how = row.atOnce > 1 ? `${row.atOnce} at once` : "one by one";
    const plain = durability === "synced" ? "a loop of `write` and `fdatasync`" : "a loop of `write`";
    return [
      `throughput of appends of ${size} MiB, ${durability}, ${how} ÷ ${plain}`,
      `${ratio(row.throughputOverPlain)} (${row.megabytesPerSecond.toFixed(0)} MB/s)`,
    ];
  });
  rows.push(
    [
      "one append of ten rows, p50 ÷ one `write` and `fdatasync` of as many bytes",
      `${ratio(small.overPlain)} (${time(small.p50Us)})`,
    ],
    [
      "a thousand appends of ten rows that wait together, throughput ÷ one by one",
      `${ratio(waiting.overOneByOne)} (${Math.round(waiting.appendsPerSecond).toLocaleString("en")} a second)`,
    ],
    [
      `${(opening.bytes / 1e9).toFixed(1)} GB: open; first record; all`,
      `${seconds(opening.openSeconds)}; ${seconds(opening.firstRecordSeconds)}; ${seconds(opening.allSeconds)} (${opening.gigabytesPerSecond.toFixed(2)} GB/s)`,
    ],
    ["reading all ÷ reading the files only", ratio(opening.allSeconds / opening.plainReadSeconds)],
    [
      `${segments.segments.toLocaleString("en")} segments: open; first record; all`,
      `${seconds(segments.openSeconds)}; ${seconds(segments.firstRecordSeconds)}; ${seconds(segments.allSeconds)}`,
    ],
  );
  const lines = ["", "## Spool: the log against plain files", ""];
  lines.push(
    `Medians of ${turns} turns; load of the machine ${load.toFixed(1)}, afterwards.`,
    "",
    "| | |",
    "|---|---|",
  );
  return [...lines, ...rows.map(([name, value]) => `| ${name} | ${value} |`)];
}

const seconds = (number) => `${number.toFixed(3)} s`;

function deltaScale({ commits, files, partitions, store, clients, idle, failed }) {
  const lines = ["", "## Delta: over commits, files, partitions and clients", ""];
  const rows = [];
  if (commits)
    rows.push(
      [`CPU of commit ${commits.commits.toLocaleString("en")} ÷ commit 50`, ratio(commits.lateOverEarly)],
      ["the same, after reopening", ratio(commits.reopenedOverEarly)],
      ["the same, another writer in between", ratio(commits.besideOverEarly)],
      ["memory more than half-way", `${commits.grownMiB.toFixed(0)} MiB`],
    );
  for (const [name, row] of Object.entries(files ?? {})) {
    const table = `${row.files.toLocaleString("en")} files, ${name === "behindCheckpoint" ? "a checkpoint" : "no checkpoint"}`;
    rows.push(
      [`${table}: connect and commit ÷ an empty table`, ratio(row.overEmpty)],
      [`${table}: a further commit ÷ an empty table`, ratio(row.furtherOverEmpty)],
      [`${table}: memory more than for an empty table`, `${row.moreMiB.toFixed(0)} MiB`],
    );
  }
  for (const [keys, row] of Object.entries(partitions ?? {}))
    rows.push(
      [
        `1 M rows, ${keys === "0" ? "no" : Number(keys).toLocaleString("en")} partitions: time ÷ \`write_deltalake\` and a sync`,
        ratio(row.overPeerSynced),
      ],
      [`the same: bytes ÷ \`write_deltalake\``, ratio(row.bytesOverPeer)],
    );
  if (store)
    rows.push([`${store.keys} partitions into S3 (moto): time ÷ \`write_deltalake\``, ratio(store.overPeer)]);
  if (clients)
    rows.push(
      [
        `threads with ${clients.clients.toLocaleString("en")} clients − with one`,
        `${clients.many.threads - clients.one.threads}`,
      ],
      ["a round of sends, for each of their tables", `${clients.many.msPerTable.toFixed(2)} ms`],
    );
  for (const [sends, row] of Object.entries(idle ?? {}))
    rows.push([
      `${sends} sends at once on a quiet client: p50, p99, versions`,
      `${time(row.p50Ms * 1e3)}, ${time(row.p99Ms * 1e3)}, ${row.mostVersions}`,
    ]);
  lines.push("| | |", "|---|---|", ...rows.map(([what, value]) => `| ${what} | ${value} |`));
  lines.push("", bars(failed));
  return lines;
}

const bars = (failed) => (failed.length === 0 ? "No bar is failed." : `Failed: ${failed.join("; ")}.`);

/** Ratios first: they are what can be compared. */
function flight({ throughput, latency, memory, load, turns, congestionControl }) {
  const lines = ["", "## Flight: into one pyarrow server", ""];
  const loads = load.map((number) => number.toFixed(1)).join(" and ");
  lines.push(`Medians of ${turns} turns; load of the machine ${loads}, before and after.`);
  lines.push(`The system's congestion control is ${congestionControl}.`, "");
  lines.push(
    "| batches | client | throughput ÷ pyarrow | CPU ÷ pyarrow | GB/s | CPU s/GB | batches/s |",
    "|---|---|---|---|---|---|---|",
  );
  for (const [name, clients] of Object.entries(throughput))
    for (const [client, row] of Object.entries(clients)) {
      const over =
        client === "pyarrow" ? " | " : `${ratio(row.throughputOverPyarrow)} | ${ratio(row.cpuOverPyarrow)}`;
      lines.push(
        `| ${name} | ${FLIGHT_CLIENTS[client]} | ${over} | ${row.gigabytesPerSecond.toFixed(2)} | ${row.cpuSecondsPerGigabyte.toFixed(3)} | ${Math.round(row.batchesPerSecond).toLocaleString("en")} |`,
      );
    }
  lines.push("", "One batch of 100 rows, from sending it to its acknowledgement (`part`):", "");
  lines.push("| client | p50 ÷ tonic | p99 ÷ tonic | p50 | p99 |", "|---|---|---|---|---|");
  for (const [client, row] of Object.entries(latency)) {
    const over = client === "tonic" ? " | " : `${ratio(row.p50OverTonic)} | ${ratio(row.p99OverTonic)}`;
    lines.push(`| ${FLIGHT_CLIENTS[client]} | ${over} | ${time(row.p50Us)} | ${time(row.p99Us)} |`);
  }
  lines.push("", "Peak memory above the start:", "");
  lines.push("| server, and what is sent | above the budget | budget | streamed | above the start |");
  lines.push("|---|---|---|---|---|");
  for (const [name, row] of Object.entries(memory))
    lines.push(
      `| ${name} | ${(row.aboveMiB - row.budgetMiB).toFixed(0)} MiB | ${row.budgetMiB} MiB | ${row.streamedMiB} MiB | ${row.aboveMiB.toFixed(0)} MiB |`,
    );
  return lines;
}

function zerobus({ throughput, latency, sdk, load, turns }) {
  const lines = ["", "## Zerobus: onto one emulator", ""];
  const loads = load.map((number) => number.toFixed(1)).join(" and ");
  lines.push(`Medians of ${turns} turns; load of the machine ${loads}, before and after.`);
  if (throughput) lines.push(...zerobusOfficial(throughput, latency));
  if (sdk) lines.push(...zerobusSdk(sdk));
  return lines;
}

function zerobusOfficial(throughput, latency) {
  const lines = [""];
  lines.push(
    "| batches | client | throughput ÷ official | CPU ÷ official | GB/s | CPU s/GB | batches/s | CPU of the JS thread per batch | one `enqueue` call |",
    "|---|---|---|---|---|---|---|---|---|",
  );
  for (const [name, clients] of Object.entries(throughput))
    for (const [client, row] of Object.entries(clients)) {
      const over =
        client === "official"
          ? " | "
          : `${ratio(row.throughputOverOfficial)} | ${ratio(row.cpuOverOfficial)}`;
      const thread = client === "official" ? " | " : `${time(row.threadUs)} | ${time(row.handoffUs)}`;
      lines.push(
        `| ${name} | ${ZEROBUS_CLIENTS[client](row)} | ${over} | ${row.gigabytesPerSecond.toFixed(2)} | ${row.cpuSecondsPerGigabyte.toFixed(3)} | ${Math.round(row.batchesPerSecond).toLocaleString("en")} | ${thread} |`,
      );
    }
  lines.push("", "One batch of 100 rows, from sending it to its acknowledgement:", "");
  lines.push("| client | p50 ÷ official | p99 ÷ official | p50 | p99 |", "|---|---|---|---|---|");
  for (const [client, row] of Object.entries(latency)) {
    const over =
      client === "official" ? " | " : `${ratio(row.p50OverOfficial)} | ${ratio(row.p99OverOfficial)}`;
    lines.push(`| ${ZEROBUS_CLIENTS[client](row)} | ${over} | ${time(row.p50Us)} | ${time(row.p99Us)} |`);
  }
  return lines;
}

function zerobusSdk({ throughput, latency }) {
  const lines = ["", "Against the official TypeScript SDK, both from JavaScript memory:", ""];
  lines.push(
    "| batches | client | throughput ÷ SDK | CPU ÷ SDK | event loop busy | GB/s | CPU s/GB | batches/s | CPU of the JS thread per batch |",
    "|---|---|---|---|---|---|---|---|---|",
  );
  for (const [name, clients] of Object.entries(throughput))
    for (const [client, row] of Object.entries(clients)) {
      const over = client === "sdk" ? " | " : `${ratio(row.throughputOverSdk)} | ${ratio(row.cpuOverSdk)}`;
      lines.push(
        `| ${name} | ${ZEROBUS_CLIENTS[client](row)} | ${over} | ${Math.round(row.loopUtilization * 100)} % | ${row.gigabytesPerSecond.toFixed(2)} | ${row.cpuSecondsPerGigabyte.toFixed(3)} | ${Math.round(row.batchesPerSecond).toLocaleString("en")} | ${time(row.threadUs)} |`,
      );
    }
  lines.push("", "One batch of 100 rows, from sending it to its acknowledgement:", "");
  lines.push("| client | p50 ÷ SDK | p99 ÷ SDK | p50 | p99 |", "|---|---|---|---|---|");
  for (const [client, row] of Object.entries(latency)) {
    const over = client === "sdk" ? " | " : `${ratio(row.p50OverSdk)} | ${ratio(row.p99OverSdk)}`;
    lines.push(`| ${ZEROBUS_CLIENTS[client](row)} | ${over} | ${time(row.p50Us)} | ${time(row.p99Us)} |`);
  }
  return lines;
}

const ZEROBUS_CLIENTS = {
  enqueue: (row) => `arrow-ingest from JavaScript, ${row.handoffs}`,
  ipc: () => 'arrow-ingest from JavaScript, `handoff: "ipc"`',
  send: () => "arrow-ingest from JavaScript, `send`",
  official: () => "the official Rust client",
  sdk: () => "the official TypeScript SDK",
};

const FLIGHT_CLIENTS = {
  enqueue: "arrow-ingest from JavaScript, `enqueue`",
  sendAll: "arrow-ingest from JavaScript, `sendAll`",
  send: "arrow-ingest from JavaScript, `send`",
  pyarrow: "pyarrow",
  transmitter: "the Rust half alone",
  session: "the Rust half without its transmitter",
  tonic: "tonic with the encoder of arrow-flight",
};

const size = (bytes) => (bytes >= 2 ** 20 ? `${bytes / 2 ** 20} MiB` : `${bytes / 2 ** 10} KiB`);
const time = (us) => (us >= 1_000 ? `${(us / 1_000).toFixed(1)} ms` : `${us.toFixed(1)} µs`);
const ratio = (number) => `${number >= 100 ? number.toFixed(0) : number.toFixed(number >= 10 ? 1 : 2)} ×`;
