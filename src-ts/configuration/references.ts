// `${env:NAME}` and `${file:PATH}` in text → what they stand for.
//
// Invariants:
// - What is found is not looked through again: a secret may hold anything.
// - No complaint quotes the text, nor what was found.
// - A file that never ends, or that nobody writes to, is refused: it would be read for ever.

import { open, stat } from "node:fs/promises";
import * as path from "node:path";

export interface References {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** What relative paths begin at. */
  readonly base: string;
}

export type Resolved = { readonly text: string; readonly referenced: boolean } | { readonly fault: string };

/** Bytes of one file: no key, token or certificate is so large. */
const MOST = 1 << 20;

/** Two `$` stand for one, and for no reference. */
const REFERENCE = /\$(\$?)\{([^}]*)\}/gu;

export const mayRefer = (text: string): boolean => text.includes("${");

export async function resolved(text: string, references: References): Promise<Resolved> {
  let made = "";
  let end = 0;
  let referenced = false;
  for (const match of text.matchAll(REFERENCE)) {
    const [whole, doubled, inner] = match;
    made += text.slice(end, match.index);
    end = match.index + whole.length;
    if (doubled !== "") {
      made += whole.slice(1);
      continue;
    }
    const found = await lookedUp(inner!, references);
    if ("fault" in found) return found;
    made += found.text;
    referenced = true;
  }
  return { text: made + text.slice(end), referenced };
}

async function lookedUp(inner: string, { environment, base }: References): Promise<Resolved> {
  const [, kind, name] = /^(env|file):(.+)$/su.exec(inner) ?? [];
  if (kind === "env") {
    const text = environment[name!];
    return text === undefined
      ? { fault: `refers to the environment variable ${name}, which is not set` }
      : { text, referenced: true };
  }
  if (kind === "file") return ofFile(name!, path.resolve(base, name!));
  return { fault: "holds ${…} of another kind than ${env:NAME} and ${file:PATH}; $${ stands for ${ itself" };
}

async function ofFile(name: string, file: string): Promise<Resolved> {
  try {
    // Editors end files with a line feed, and no secret, header or certificate minds its absence.
    return { text: (await textOf(file)).replace(/\r?\n$/u, ""), referenced: true };
  } catch (error) {
    return { fault: `refers to the file ${name}, which ${whyNot(error)}` };
  }
}

/** A regular file as text, of a bounded size. @throws What the file system says, or a RangeError. */
export async function textOf(file: string): Promise<string> {
  if (!(await stat(file)).isFile()) throw new RangeError("is no regular file");
  await using handle = await open(file);
  const bytes = Buffer.alloc(MOST + 1);
  let length = 0;
  while (length <= MOST) {
    const { bytesRead } = await handle.read(bytes, length, bytes.length - length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  if (length > MOST) throw new RangeError("is larger than 1 MiB");
  return bytes.toString("utf8", 0, length);
}

/** In words that follow the name of the file. */
export function whyNot(error: unknown): string {
  if (error instanceof RangeError) return error.message;
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ENOENT") return "is not there";
  return code === "EACCES" ? "may not be read" : `cannot be read (${String(code)})`;
}
