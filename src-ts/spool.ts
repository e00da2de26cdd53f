// Spools on the disk, seen from outside: what is in them, whether it can be read, and out of them again.
//
// Invariants:
// - Everything but `retargetSpool` only reads, takes no lock, and may be called while a client has the spool open.
// - What is damaged is told of and stays where it is.
// - Positions and identities are bigints: a spool that lives long counts further than a number does.
//
// It delivers nothing: a client that opens the spool does. `specs/spool-format.md` says what is on the disk.

import { constants } from "node:fs";
import { copyFile, mkdir, open, readdir } from "node:fs/promises";
import * as os from "node:os";
import * as path from "node:path";
import * as native from "./binding.js";
import { type DeadLetterFile, listDeadLetters, readDeadLetter } from "./dead-letter.js";
import { type ConfigIssue, errorFromNative, type IngestError } from "./errors.js";
import { configInvalid, describe } from "./options/checks.js";

/** What is not settled of a spool. */
export interface SpoolLeft {
  readonly deliveries: number;
  readonly rows: number;
  /** On the disk. */
  readonly bytes: number;
  /** When the oldest of them was appended; null if nothing is left, or its record cannot be read. */
  readonly oldest: Date | null;
}

/** A file of a spool's log. */
export interface SpoolSegment {
  readonly path: string;
  /** No row in it has a position below this. */
  readonly first: bigint;
  readonly bytes: number;
}

/** Who opened a spool last, by its own word. */
export interface SpoolOwner {
  readonly pid: number;
  readonly host: string;
  /** What the client says of itself. */
  readonly owner: string;
  readonly since: Date;
  /**
   * Whether a process of that number runs on this machine, and so may have the spool open. Null if it was opened on
   * another machine.
   */
  readonly running: boolean | null;
}

/** A spool, without a look at its rows. */
export interface SpoolState {
  readonly name: string;
  /** The spool's own folder. */
  readonly directory: string;
  /** 32 hexadecimal digits; null where no file says it. */
  readonly id: string | null;
  /** Without user name, password, query and fragment. Null where no segment says it. */
  readonly target: string | null;
  /** Every row below this position is settled. */
  readonly settledThrough: bigint;
  /** Rows that are there have positions below this. */
  readonly end: bigint;
  /** {@link listSpools} says it as near as can be told without reading all of the log, and never too little. */
  readonly left: SpoolLeft;
  /** Of the log. */
  readonly bytes: number;
  readonly segments: readonly SpoolSegment[];
  /** What is settled cannot be read: rows that were delivered are delivered again. */
  readonly cursorDamaged: boolean;
  /** Bytes of the log that could not be read and were set aside. */
  readonly setAside: readonly { readonly path: string; readonly bytes: number }[];
  /** Segments of another spool, which are left alone. */
  readonly foreign: readonly string[];
  /** Segments that cannot be read at all; the next client to open the spool sets them aside. */
  readonly unknown: readonly string[];
  readonly owner: SpoolOwner | null;
  /** Deliveries that failed for their data, each row with its reason; {@link readDeadLetter} reads them. */
  readonly failed: readonly DeadLetterFile[];
  /** Rows that were refused; {@link readDeadLetter} reads them. */
  readonly deadLetters: readonly DeadLetterFile[];
}

/** One of the spools of a directory. */
export interface SpoolListing {
  readonly name: string;
  /** Null if it cannot be read. */
  readonly state: SpoolState | null;
  /** Why it cannot. */
  readonly error: IngestError | null;
}

/** A delivery in the log. */
export interface SpoolDelivery {
  /** Of its first row. */
  readonly position: bigint;
  readonly rows: number;
  /** How many of these are not settled. */
  readonly rowsLeft: number;
  /** Of its record. */
  readonly bytes: number;
  readonly appended: Date;
  /** Its number, as its client counts. */
  readonly identity: bigint;
}

/** Bytes of the log that cannot be read. */
export interface SpoolDamage {
  /** The file. */
  readonly segment: string;
  readonly offset: number;
  readonly bytes: number;
  /** The copy that was set aside; null if there is none yet. */
  readonly setAside: string | null;
  readonly reason: string;
}

/** The end of a segment that is no whole record: an append under way, or one that never was answered. No damage. */
export interface SpoolUnfinished {
  readonly segment: string;
  readonly offset: number;
  readonly bytes: number;
}

/** What {@link inspectSpool} finds. Its `left` is exact. */
export interface SpoolInspection extends SpoolState {
  /** The first deliveries that are left, in order. */
  readonly deliveries: readonly SpoolDelivery[];
  /** What is damaged of the headers of records that are left. {@link verifySpool} finds the rest. */
  readonly damage: readonly SpoolDamage[];
  readonly unfinished: readonly SpoolUnfinished[];
}

/** What {@link verifySpool} finds. Its `left` is exact. */
export interface SpoolVerification extends SpoolState {
  /** Nothing of the log, the cursor and the files of refused rows is damaged. */
  readonly ok: boolean;
  readonly records: number;
  /** Deliveries in the log, settled ones included. */
  readonly deliveries: number;
  readonly rows: number;
  /** Records of rows that were not taken, and whose callers were told so: no damage. */
  readonly refusedRecords: number;
  readonly damage: readonly SpoolDamage[];
  readonly unfinished: readonly SpoolUnfinished[];
  /** Files of failed deliveries and refused rows that cannot be read. */
  readonly unreadable: readonly { readonly path: string; readonly error: IngestError }[];
}

/** What {@link exportSpool} wrote. */
export interface SpoolExport {
  readonly name: string;
  /** Arrow files with what is left, named by their first position. */
  readonly files: readonly string[];
  /** A file with a line of JSON for each batch in them: file, batch, position, rows, identity, time. */
  readonly list: string;
  readonly deliveries: number;
  readonly rows: number;
  /** Copies of the files of failed deliveries, below `failed/`. */
  readonly failed: readonly string[];
  /** Copies of the files of refused rows, below `dead-letters/`. */
  readonly deadLetters: readonly string[];
  /** What could not be exported. */
  readonly damage: readonly SpoolDamage[];
}

/** What {@link retargetSpool} did. */
export interface SpoolRetarget {
  /** Null if there was none, or it could not be read. */
  readonly from: string | null;
  readonly to: string;
  /** What goes to the new target. */
  readonly left: SpoolLeft;
}

/** Which of the spools of a directory. */
export interface SpoolNameOptions {
  /** Default: `"default"`. */
  readonly name?: string;
}

/** Options of {@link inspectSpool}. */
export interface InspectSpoolOptions extends SpoolNameOptions {
  /** So many deliveries are described. Default: 20. */
  readonly limit?: number;
}

/**
 * The spools in a directory, by name. Read are the headers of all segments and the last segment, so it takes the time
 * that opening them would, however much waits in them.
 *
 * @throws {IngestError} `NOT_FOUND` if there is no such directory; `SPOOL_FAILED` and `PERMISSION_DENIED` for what the
 * disk says. What is wrong with one spool is told in its place.
 */
export async function listSpools(directory: string): Promise<SpoolListing[]> {
  checked({ directory });
  const found = await native.listSpools(directory);
  const listed = found as ({ name: string; facts: Facts } | { name: string; error: unknown })[];
  return Promise.all(
    listed.map(async (one) => {
      const { name } = one;
      if ("error" in one) return { name, state: null, error: errorFromNative(one.error) };
      return { name, state: await stateOf(name, one.facts), error: null };
    }),
  );
}

/**
 * One spool: what is left, counted by the headers of its records, and its first deliveries.
 *
 * @throws {IngestError} `NOT_FOUND` if there is no such spool; `SPOOL_FORMAT` if a newer release wrote it;
 * `SPOOL_FAILED` and `PERMISSION_DENIED` for what the disk says; `CONFIG_INVALID`.
 */
export async function inspectSpool(
  directory: string,
  options?: InspectSpoolOptions,
): Promise<SpoolInspection> {
  const { name = "default", limit = 20 } = options ?? {};
  checked({ directory, name }, limit);
  const found = (await native.inspectSpool(directory, name, limit)) as {
    facts: Facts;
    left: LeftFacts;
    deliveries: DeliveryFacts[];
    damage: SpoolDamage[];
    unfinished: SpoolUnfinished[];
  };
  return {
    ...(await stateOf(name, found.facts)),
    left: leftOf(found.left),
    deliveries: found.deliveries.map(({ position, appendedMs, identity, ...others }) => ({
      ...others,
      position: BigInt(position),
      appended: new Date(appendedMs),
      identity: BigInt(identity),
    })),
    damage: found.damage,
    unfinished: found.unfinished,
  };
}

/**
 * Reads every byte of a spool, holds it against its checksums, and decodes all rows, settled ones included.
 *
 * @throws {IngestError} As {@link inspectSpool}. Damage is no error: it is in what is returned.
 */
export async function verifySpool(directory: string, options?: SpoolNameOptions): Promise<SpoolVerification> {
  const { name = "default" } = options ?? {};
  checked({ directory, name });
  const { facts, left, ...found } = (await native.verifySpool(directory, name)) as {
    facts: Facts;
    left: LeftFacts;
    records: number;
    deliveries: number;
    rows: number;
    refusedRecords: number;
    damage: SpoolDamage[];
    unfinished: SpoolUnfinished[];
  };
  const state = await stateOf(name, facts);
  const unreadable: { path: string; error: IngestError }[] = [];
  for (const file of [...state.failed, ...state.deadLetters]) {
    const error = await readDeadLetter(file).then(
      () => undefined,
      (error: IngestError) => error,
    );
    // One that is gone was removed to make room, or by whoever has dealt with it.
    if (error !== undefined && error.code !== "NOT_FOUND") unreadable.push({ path: file.path, error });
  }
  const whole = !state.cursorDamaged && state.unknown.length === 0 && found.damage.length === 0;
  return { ...state, ...found, left: leftOf(left), unreadable, ok: whole && unreadable.length === 0 };
}

/**
 * Writes what is left in a spool to Arrow files in a folder, which has to be empty or is made, and copies the files of
 * failed deliveries and refused rows there. The spool stays as it is, so a client that delivers it delivers these rows,
 * too.
 *
 * @throws {IngestError} As {@link inspectSpool}; `CONFIG_INVALID` if the folder is not empty. Damage is no error: it is
 * in what is returned, and everything else is exported.
 */
export async function exportSpool(
  directory: string,
  to: string,
  options?: SpoolNameOptions,
): Promise<SpoolExport> {
  const { name = "default" } = options ?? {};
  checked({ directory, to, name });
  const { facts, ...exported } = (await native.exportSpool(directory, name, to)) as {
    facts: Facts;
    files: string[];
    list: string;
    deliveries: number;
    rows: number;
    damage: SpoolDamage[];
  };
  const copied = (folder: string) => copyLetters(path.join(facts.directory, folder), path.join(to, folder));
  return { name, ...exported, failed: await copied(FAILED), deadLetters: await copied(REFUSED) };
}

/**
 * Sends what is left in a spool to another target from now on. No client may have the spool open. What the old target
 * has taken of it stays there: of rows whose acknowledgement was lost, both may have a copy.
 *
 * @throws {IngestError} `SPOOL_LOCKED` naming who has it open; `CONFIG_INVALID` for a target that no destination answers
 * to; as {@link inspectSpool}.
 */
export async function retargetSpool(
  directory: string,
  target: string,
  options?: SpoolNameOptions,
): Promise<SpoolRetarget> {
  const { name = "default" } = options ?? {};
  checked({ directory, target, name });
  const done = (await native.retargetSpool(directory, name, target)) as {
    from: string | null;
    to: string;
    left: LeftFacts;
  };
  return { ...done, left: leftOf(done.left) };
}

const FAILED = "failed";
const REFUSED = "dead-letters";
/** Files that are not whole are copied as well: nobody else may come and finish them. */
const LETTERS = /^rejected-\d+-[0-9a-f]+\.arrow(\.part|\.damaged)?$/;

interface LeftFacts {
  readonly deliveries: number;
  readonly rows: number;
  readonly bytes: number;
  readonly oldestMs: number | null;
}

interface DeliveryFacts {
  readonly position: string;
  readonly rows: number;
  readonly rowsLeft: number;
  readonly bytes: number;
  readonly appendedMs: number;
  readonly identity: string;
}

/** A spool as it crosses the native boundary. */
interface Facts
  extends Pick<
    SpoolState,
    "directory" | "id" | "target" | "cursorDamaged" | "setAside" | "foreign" | "unknown"
  > {
  readonly settledThrough: string;
  readonly end: string;
  readonly left: LeftFacts;
  readonly segments: readonly { readonly path: string; readonly first: string; readonly bytes: number }[];
  /** JSON of another process, which may be anything. */
  readonly owner: string | null;
}

async function stateOf(name: string, facts: Facts): Promise<SpoolState> {
  const { directory, segments } = facts;
  const [failed, deadLetters] = await Promise.all([
    letters(path.join(directory, FAILED)),
    letters(path.join(directory, REFUSED)),
  ]);
  return {
    ...facts,
    name,
    settledThrough: BigInt(facts.settledThrough),
    end: BigInt(facts.end),
    left: leftOf(facts.left),
    bytes: segments.reduce((sum, segment) => sum + segment.bytes, 0),
    segments: segments.map((segment) => ({ ...segment, first: BigInt(segment.first) })),
    owner: facts.owner === null ? null : ownerOf(facts.owner),
    failed,
    deadLetters,
  };
}

function leftOf({ oldestMs, ...counts }: LeftFacts): SpoolLeft {
  return { ...counts, oldest: oldestMs === null ? null : new Date(oldestMs) };
}

function ownerOf(text: string): SpoolOwner | null {
  try {
    const { pid, host, owner, sinceMs } = JSON.parse(text) as Record<string, unknown>;
    // Half of it may be there, if the disk was full or its process was killed.
    if (typeof pid !== "number" || typeof sinceMs !== "number") return null;
    const machine = String(host);
    return {
      pid,
      host: machine,
      owner: String(owner),
      since: new Date(sinceMs),
      running: machine === os.hostname() ? isRunning(pid) : null,
    };
  } catch {
    return null;
  }
}

function isRunning(pid: number): boolean {
  try {
    // Sends nothing.
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Somebody else's process is one that runs.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** The whole files of a folder; none where it is missing, as nothing was refused yet. */
async function letters(folder: string): Promise<DeadLetterFile[]> {
  return listDeadLetters(folder).catch((error: IngestError) => {
    if (error.code === "NOT_FOUND") return [];
    throw error;
  });
}

async function copyLetters(from: string, to: string): Promise<string[]> {
  const all = await readdir(from).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  const copies: string[] = [];
  for (const name of all.filter((name) => LETTERS.test(name)).sort()) {
    await mkdir(to, { recursive: true, mode: 0o700 });
    const copy = path.join(to, name);
    try {
      await copyFile(path.join(from, name), copy, constants.COPYFILE_EXCL);
    } catch (error) {
      // It got its final name, or was removed, since it was listed.
      if ((error as NodeJS.ErrnoException).code === "ENOENT") continue;
      throw error;
    }
    await using file = await open(copy, "r+");
    await file.sync();
    copies.push(copy);
  }
  return copies;
}

/** @throws {IngestError} `CONFIG_INVALID` for what is no text, or none at all. */
function checked(texts: Readonly<Record<string, unknown>>, limit: unknown = 0): void {
  const issues: ConfigIssue[] = [];
  for (const [path, value] of Object.entries(texts))
    if (typeof value !== "string") issues.push({ path, message: `must be a string, not ${describe(value)}` });
    else if (value === "") issues.push({ path, message: "must not be empty" });
  if (typeof limit !== "number" || !(limit >= 0))
    issues.push({ path: "limit", message: `must be a number, not ${describe(limit)}` });
  if (issues.length > 0) throw configInvalid(issues, "spool");
}
