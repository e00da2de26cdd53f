// Packages of Debian, unpacked below `.tools`: nothing is installed, and nobody has to be root.
//
// It asks the mirror that this machine's apt asks, for any release and any architecture, with lists and a state of its
// own. Where there is no apt, or one of another distribution, it says so.
import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { root, say, stop } from "./ensure.mjs";

export const tools = path.join(root, ".tools/platforms");

/** What a fetched folder is made of; it is fetched again when the recipe changes. Returns the folder. */
export function fetched(name, recipe, make) {
  const folder = path.join(tools, name);
  const mark = path.join(folder, "installed");
  const wanted = JSON.stringify(recipe);
  if (isMade(mark, wanted)) return folder;
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder, { recursive: true });
  make(folder);
  fs.writeFileSync(mark, wanted);
  return folder;
}

const isMade = (mark, wanted) => fs.existsSync(mark) && fs.readFileSync(mark, "utf8") === wanted;

/** Whether {@link debian} would have nothing to fetch. */
export function isFetched(name, packages, { suites, architecture = "amd64" }) {
  return isMade(path.join(tools, name, "installed"), JSON.stringify({ packages, suites, architecture }));
}

/** Whether this machine can have packages of Debian, and if not, why. */
export function debianFault() {
  if (process.platform !== "linux") return "packages of Debian are for Linux";
  if (spawnSync("apt-get", ["--version"]).status !== 0) return "there is no apt-get";
  return repositories().length === 0 ? "apt here knows no mirror of Debian" : undefined;
}

/**
 * The folder with these packages unpacked: the newest of `suites` ("trixie", "bookworm-security") for `architecture`
 * ("amd64", "arm64").
 */
export function debian(name, packages, { suites, architecture = "amd64" }) {
  return fetched(name, { packages, suites, architecture }, (folder) => {
    const fault = debianFault();
    if (fault) stop(`${packages.join(", ")} of Debian cannot be had: ${fault}.`);
    say(`fetching ${packages.join(", ")} of Debian ${suites.at(-1)} (${architecture})`);
    const state = path.join(folder, ".apt");
    for (const part of ["lists/partial", "cache/archives/partial"])
      fs.mkdirSync(path.join(state, part), { recursive: true });
    fs.writeFileSync(path.join(state, "status"), "");
    const mirrors = repositories();
    const sources = suites.map((suite) => {
      const mirror = mirrors.find((uri) => /security/.test(uri) === suite.endsWith("-security"));
      if (mirror === undefined) stop(`apt here knows no mirror for ${suite}.`);
      return `deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror} ${suite} main\n`;
    });
    fs.writeFileSync(path.join(state, "sources.list"), sources.join(""));
    const settings = {
      "Dir::Etc::SourceList": path.join(state, "sources.list"),
      "Dir::Etc::SourceParts": "-",
      "Dir::State": state,
      "Dir::State::Lists": path.join(state, "lists"),
      "Dir::State::Status": path.join(state, "status"),
      "Dir::Cache": path.join(state, "cache"),
      "APT::Architecture": architecture,
      "APT::Architectures": architecture,
      // Root's folders are closed to the user that apt would fetch as.
      "APT::Sandbox::User": "root",
    };
    const lines = Object.entries(settings).map(([key, value]) => `${key} "${value}";\n`);
    fs.writeFileSync(path.join(state, "apt.conf"), lines.join(""));
    const apt = (...args) =>
      execFileSync("apt-get", ["-qq", ...args], {
        cwd: state,
        env: { ...process.env, APT_CONFIG: path.join(state, "apt.conf") },
        stdio: ["ignore", "ignore", "inherit"],
      });
    apt("update");
    apt("download", ...packages);
    for (const file of fs.readdirSync(state).filter((entry) => entry.endsWith(".deb")))
      execFileSync("dpkg-deb", ["-x", path.join(state, file), folder]);
    fs.rmSync(state, { recursive: true });
    // A package does not bring these links: they are the base system's.
    for (const part of ["lib", "lib64", "bin"])
      if (fs.existsSync(path.join(folder, "usr", part)) && !fs.existsSync(path.join(folder, part)))
        fs.symlinkSync(path.join("usr", part), path.join(folder, part));
  });
}

/** Mirrors of Debian, as apt here knows them. */
function repositories() {
  const asked = ["indextargets", "--format", "$(REPO_URI) $(ORIGIN)", "Created-By: Packages"];
  const { stdout } = spawnSync("apt-get", asked, { encoding: "utf8" });
  const lines = (stdout ?? "").split("\n").filter((line) => / Debian(-Security)?$/i.test(line));
  return [...new Set(lines.map((line) => line.split(" ")[0]))];
}
