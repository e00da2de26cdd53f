// The help texts, by command. They are part of the interface: `specs/cli.md` says so.

const SETTINGS = `Options of the client
  --set path=value     one option of connect(), such as --set batching.maxRows=1000;
                       the value is JSON where it is some, else text
  --options FILE       options of connect() in a JSON file; --set goes on top
  --config FILE        a configuration file (JSON, YAML, TOML) below all of these and below the
                       environment (ARROW_INGEST_...); docs/configuration.md
  --header "name: value"   a header for network destinations

Secrets never stand on the command line, where others can read them: write @env:NAME or
@file:PATH as the value of --set or --header, or use --options.
`;

const OUTPUT = `Output
  --json               the summary as one line of JSON on standard output
  -q, --quiet          errors only
  -v, --verbose        also what the client logs
`;

const ENDING = `Exit code
  0  every row is acknowledged: durable at the destination
  1  some row was refused, failed, or has an unknown outcome; or the inputs could not all be read
  2  the command line or the options are wrong, and nothing was sent
  130, 143  ended by SIGINT, SIGTERM
`;

const TARGETS = `Targets
  delta:./path  delta:s3://bucket/table  az://  gs://   a Delta Lake table
  grpc://host:port/path  grpc+tls://  grpc+unix://      an Arrow Flight server
  flightsql://host:port/table                           a Flight SQL database
  zerobus://<workspace>.zerobus.<region>.<domain>/<catalog>.<schema>.<table>
                                                        a table of Databricks, or of the emulator
  discard:                                              nowhere: for dry runs
`;

export const HELP: ReadonlyMap<string, string> = new Map([
  [
    "",
    `arrow-ingest: Arrow record batches into tables

Usage
  arrow-ingest send <target> <file>...     send Arrow IPC, Parquet, JSON or CSV
  arrow-ingest check [target]              try connection, credentials and table
  arrow-ingest config check|print [file]   what is wrong with a configuration, and what is in force
  arrow-ingest emulator                    run a Zerobus service on this machine
  arrow-ingest deadletter ls|show|resend   refused rows that a client kept
  arrow-ingest spool ls|show|verify|export|retarget|drain
                                           what waits on the disk for its destination
  arrow-ingest help <command>              precise help, with examples
  arrow-ingest --version

${TARGETS}
Example
  arrow-ingest send delta:./lake/flights flights.arrow
`,
  ],
  [
    "send",
    `arrow-ingest send: files and streams into a table

Usage
  arrow-ingest send [options] <target> <file>...

A file is Arrow IPC (file or stream), Parquet, JSON (a line for each row, or one array) or CSV,
plain or compressed by gzip or zstd; - is standard input. What it is, is told by its content, of
CSV by its name. It is read piece by piece, no faster than the destination takes it. Files are
sent in the order given; their schemas need not be the same. On a terminal, a line on standard
error says how far it got, and how long it will take.

Inputs
  --schema FILE        the columns of JSON and CSV: a module (.js, .mjs, .ts) that exports a
                       schema as default or "schema", or an Arrow IPC file that has it
  --format FORMAT      json, csv or parquet, for inputs of which nothing else tells

${SETTINGS}
${OUTPUT}
SIGINT (Ctrl-C) reads no more, delivers what was admitted and says what became of it; a second
one stops at once.

${ENDING}
Examples
  arrow-ingest send delta:./lake/flights flights.arrow
  arrow-ingest send delta:./lake/orders data.parquet more.ndjson.gz table.csv --schema order.mjs
  producer | arrow-ingest send grpc://127.0.0.1:8815/flights - --set flight.acknowledgement=part
  arrow-ingest send delta:s3://bucket/table *.arrow \\
    --set delta.storage.aws_secret_access_key=@env:SECRET_KEY
  arrow-ingest send discard: big.arrow --json | jq .rows
`,
  ],
  [
    "check",
    `arrow-ingest check: try connection, credentials and table; write nothing

Usage
  arrow-ingest check [options] [target]

Without a target: the one of ARROW_INGEST_URL, or of the file of --config.

It is tried once, unless --set retry.attempts=N says otherwise.

${SETTINGS}
${OUTPUT}
Exit code
  0  a client could send there
  1  it could not; standard error says why
  2  the command line or the options are wrong

Examples
  arrow-ingest check delta:./lake/flights
  arrow-ingest check grpc+tls://ingest.example.com:443/flights --header "authorization: @env:AUTHORIZATION"
`,
  ],
  [
    "config",
    `arrow-ingest config: the options in force, and what is wrong with them

Usage
  arrow-ingest config check [options] [file]
  arrow-ingest config print [options] [file]

check   every mistake at once, each with the file's line or the name of the variable
print   every option in force and where it came from: the command line, the environment
        (ARROW_INGEST_...), the file, or a default. Secrets are not shown.

The file is JSON, YAML or TOML, by its ending; without one, that of ARROW_INGEST_CONFIG. Nothing
is connected to.

${SETTINGS}
  --target URL         the target, as connect() takes it
  --changed            print: without defaults
  --json               the report as one line of JSON

Exit code
  0  no mistake
  2  some mistake; standard error has a line for each

Examples
  arrow-ingest config check ingest.yaml
  ARROW_INGEST_BATCHING_MAX_ROWS=1000 arrow-ingest config print --changed ingest.yaml
`,
  ],
  [
    "emulator",
    `arrow-ingest emulator: a Zerobus service on this machine

Usage
  arrow-ingest emulator [options]

Tokens, the table API and Arrow streams are on one port, for any client's Arrow stream. It prints its URLs
and the call of connect() that reaches it, then a line for each event, and at SIGINT (Ctrl-C) or SIGTERM
commits what came and sums up.

Options
  --port N             default 0: one that is free
  --host NAME          default 127.0.0.1
  --lake DIRECTORY     rows become Delta tables there; without it they are counted and forgotten
  --table NAME=FILE    a table catalog.schema.table, its columns in a JSON file:
                       [{ "name": "id", "type": "BIGINT", "nullable": false }]
  --no-auto-create     a table that is not declared is not made; so it is with --table
  --auto-create        one is made also with --table
  --fault FAULT        something that goes wrong on purpose, such as rotate:after=1000rows,grace=2s;
                       specs/emulator.md lists all kinds
  --tls                TLS, with an authority made for this run
  --ca FILE            with --tls: the authority's certificate is written there
  --client-id ID       whom the token endpoint knows; without it, everybody
  --client-secret REF  with --client-id: @env:NAME or @file:PATH
  --options FILE       options of startEmulator() in a JSON file; the flags go on top
  --json               every line as JSON: ready, the events, the summary
  -q, --quiet          no line for each event

Exit code
  0  ended by SIGINT or SIGTERM, everything committed
  1  the port cannot be had, or the last commit failed
  2  the command line or the options are wrong

Examples
  arrow-ingest emulator --port 8080 --lake ./lake
  arrow-ingest emulator --table main.default.events=events.json --fault close:after=500rows,times=3
  arrow-ingest emulator --tls --ca ca.pem --client-id me --client-secret @env:EMULATOR_SECRET
`,
  ],
  [
    "deadletter",
    `arrow-ingest deadletter: refused rows that a client kept (option deadLetter.directory)

Usage
  arrow-ingest deadletter ls [--json] <directory>
  arrow-ingest deadletter show [--json] [--limit N] [--code CODE] <directory> [file...]
  arrow-ingest deadletter resend [options] <directory> <target> [file...]

ls      the files, oldest first: rows, size, age, reasons by code. With --json a line for each.
show    rows with their reasons; -n, --limit rows (20 unless --json). With --json a line for each,
        its values as [name, value] in the order of the columns.
resend  sends the rows, one file a delivery, in the schema they were first sent in. A file is removed
        once its rows are acknowledged; rows that are refused again are kept in a new file with
        the new reason. What failed, or has an unknown outcome, stays.

${SETTINGS}
${OUTPUT}
${ENDING}
Examples
  arrow-ingest deadletter ls ./refused
  arrow-ingest deadletter show ./refused --code INVALID_ARGUMENT --json | jq .values
  arrow-ingest deadletter resend ./refused delta:./lake/mended
`,
  ],
  [
    "spool",
    `arrow-ingest spool: what waits on the disk for its destination (option spool.directory)

Usage
  arrow-ingest spool ls [--json] <directory>
  arrow-ingest spool show [--json] [--name NAME] [--limit N] <directory>
  arrow-ingest spool verify [--json] [--name NAME] <directory>
  arrow-ingest spool export [--json] [--name NAME] --to FOLDER <directory>
  arrow-ingest spool retarget [--json] [--name NAME] --to TARGET <directory>
  arrow-ingest spool drain [options] [--name NAME] [--to TARGET] <directory>

The directory is that of the option spool.directory; --name is spool.name, "default" unless given.

ls        the spools in it: target, what is left and how old, failed deliveries, refused rows, damage
show      one spool, and the first deliveries that are left; -n, --limit deliveries (20)
verify    reads every byte and decodes every row; what is damaged is shown and counted, and stays
export    what is left as Arrow files, with deliveries.jsonl, which has the position of each batch;
          failed/ and dead-letters/ are copied. The folder must be empty or missing; the spool stays
          as it is
retarget  sends what is left to another target from now on; no client may have the spool open
drain     delivers what is left, waits until nothing is, and sums up. --to is the target where the
          stored one, which has no user, query or fragment, is not enough

ls, show, verify and export only read, and take no lock: a client may have the spool open.

Of drain
${SETTINGS}
${OUTPUT}
Exit code
  0  done, and nothing that was looked at is damaged; of drain, every row is acknowledged
  1  something is damaged or cannot be read; a client has the spool open; of drain, something failed,
     was refused, or is left
  2  the command line or an option is wrong, or there is no such spool
  130, 143  drain was ended by SIGINT, SIGTERM; the rest stays in the spool

Examples
  arrow-ingest spool ls ./spool
  arrow-ingest spool verify ./spool --json | jq .damage
  arrow-ingest spool export ./spool --to ./rescued && arrow-ingest send delta:./lake/t rescued/*.arrow
  arrow-ingest spool retarget ./spool --to delta:./lake/elsewhere
`,
  ],
]);
