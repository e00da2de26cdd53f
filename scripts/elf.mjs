// What a shared library of Linux asks of the system that loads it, as readelf (of binutils) tells it.
import { spawnSync } from "node:child_process";
import { stop } from "./ensure.mjs";
import { GLIBC_FLOOR } from "./toolchain.mjs";

/**
 * @typedef {object} Needs
 * @property {string} machine
 * @property {string[]} libraries Names of the libraries that it is linked to.
 * @property {{ name: string, version: string | undefined }[]} symbols Those that another library has to define.
 * @property {string | undefined} glibc The highest version of glibc that a symbol has.
 */

/** @returns {Needs} */
export function needsOf(file) {
  const asked = ["--wide", "--file-header", "--dynamic", "--dyn-syms", file];
  const read = spawnSync("readelf", asked, { encoding: "utf8", maxBuffer: 2 ** 26 });
  if (read.error) stop(`readelf was not found: ${read.error.message}. On Debian: apt-get install binutils`);
  if (read.status !== 0) throw new Error(`${file} is no shared library: ${read.stderr.trim()}`);
  const symbols = [...read.stdout.matchAll(/ GLOBAL +\w+ +UND (\S+?)(?:@(\S+))?(?: \(\d+\))?$/gm)].map(
    ([, name, version]) => ({ name, version }),
  );
  const versions = symbols.flatMap(({ version }) => /^GLIBC_([\d.]+)$/.exec(version ?? "")?.[1] ?? []);
  return {
    machine: /Machine: +(.+)/.exec(read.stdout)?.[1] ?? "",
    libraries: [...read.stdout.matchAll(/\(NEEDED\) .*\[(.+)\]/g)].map(([, name]) => name),
    symbols,
    glibc: versions.sort(byVersion).at(-1),
  };
}

export function byVersion(a, b) {
  const [x, y] = [a, b].map((text) => text.split(".").map(Number));
  for (let i = 0; i < Math.max(x.length, y.length); i++)
    if ((x[i] ?? 0) !== (y[i] ?? 0)) return (x[i] ?? 0) - (y[i] ?? 0);
  return 0;
}

const MACHINES = { x86_64: /X86-64/, aarch64: /AArch64/ };

/** Why an addon would not load on the systems that `target` stands for, or undefined. */
export function addonFault(file, target) {
  const needs = needsOf(file);
  const [machine] = target.split("-");
  if (!MACHINES[machine].test(needs.machine)) return `it is for ${needs.machine}`;
  return faultOf(needs, target.endsWith("-musl"));
}

/** Exported for its test. */
export function faultOf({ libraries, symbols, glibc }, musl) {
  // Every Node of that libc has these; a library beside them would have to be there by chance.
  const known = musl
    ? /^libc\.(so|musl-\w+\.so\.1)$/
    : /^(lib(c|m|dl|rt|util|pthread|gcc_s)\.so\.\d+|ld-linux-.*)$/;
  const foreign = libraries.filter((name) => !known.test(name));
  if (foreign.length > 0) return `it needs ${foreign.join(", ")}`;
  if (musl) return symbols.some(({ version }) => version?.startsWith("GLIBC")) ? "it needs glibc" : undefined;
  if (glibc !== undefined && byVersion(glibc, GLIBC_FLOOR) > 0) {
    const high = symbols.filter(
      ({ version }) => version?.startsWith("GLIBC_") && byVersion(version.slice(6), GLIBC_FLOOR) > 0,
    );
    return `it needs glibc ${glibc}: ${high.map(({ name, version }) => `${name}@${version}`).join(", ")}`;
  }
  // What no library of a version defines is defined by nobody: Node loads this without binding it lazily.
  const undefinedOnes = symbols.filter(({ version }) => version === undefined);
  if (undefinedOnes.length === 0) return undefined;
  return `nobody defines ${undefinedOnes.map(({ name }) => name).join(", ")}`;
}
