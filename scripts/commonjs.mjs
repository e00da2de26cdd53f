// The door for `require`: dist/ as one CommonJS file, with declarations of its own.
//
// Node takes the modules themselves, for `require` too (the condition `module-sync` of package.json), so a program has
// one copy whichever way it asks. The door is for hosts that know CommonJS alone: Jest as it comes, older bundlers.
// It must need no `import`, and so has p-retry in it, which has no CommonJS of its own.
import * as fs from "node:fs";
import * as path from "node:path";
import { rolldown } from "rolldown";
import { root } from "./ensure.mjs";

/** @param {string} to A copy of dist/: index.cjs, generated/index.cjs and *.d.cts are put beside what is there. */
export async function makeCommonJs(to) {
  const from = path.join(root, "dist");
  await bundle(path.join(from, "index.js"), path.join(to, "index.cjs"), licences());
  await bundle(path.join(from, "generated/index.js"), path.join(to, "generated/index.cjs"), "");
  for (const name of fs.readdirSync(from, { recursive: true })) {
    if (!name.endsWith(".d.ts") || /^(cli|generated)\b/.test(name)) continue;
    const text = fs.readFileSync(path.join(from, name), "utf8");
    const own = text
      .replaceAll(/((?:from|import\(?)\s*"\.[^"]*)\.js"/g, '$1.cjs"')
      .replace(/^\/\/# source.*$/m, "");
    fs.writeFileSync(path.join(to, name.replace(/\.ts$/, ".cts")), own);
  }
}

/** What a file says that has p-retry in it. */
export function licences() {
  const texts = ["p-retry", "is-network-error"].map((name) => {
    const text = fs.readFileSync(path.join(root, "node_modules", name, "license"), "utf8");
    return `${name}\n\n${text.trim()}`;
  });
  return `/*!\nThis file contains:\n\n${texts.join("\n\n")}\n*/`;
}

async function bundle(input, file, banner) {
  const made = await rolldown({
    input,
    platform: "node",
    external: ["apache-arrow", "@opentelemetry/api", "yaml", "smol-toml", /\.node$/],
    plugins: [
      {
        name: "generated",
        // It looks for the addon beside itself, so it stays a file of its own.
        resolveId: (id) =>
          id === "./generated/index.js" ? { id: "./generated/index.cjs", external: true } : null,
      },
    ],
    // What is not found would be taken for external, and be missed by the first who calls `require`.
    onwarn(warning) {
      throw new Error(warning.message);
    },
  });
  await made.write({ file, format: "cjs", exports: "named", dynamicImportInCjs: false, banner });
  await made.close();
}
