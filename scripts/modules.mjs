// dist/ as few modules: what the published package has. Node spends more time on finding, reading and linking fifty
// files than on what stands in them; one file halves what `import "arrow-ingest"` costs. For the same reason:
//
// - p-retry is in it.
// - Modules of Node are required and not imported. `import` reads every property of a module, and so makes Node load what
//   the properties promise: of "node:util", parsers and encoders of all kinds.
// - It is ASCII: V8 keeps other text as two bytes for each character, and reads that more slowly.
import * as fs from "node:fs";
import { createRequire } from "node:module";
import * as path from "node:path";
import { rolldown } from "rolldown";
import { licences } from "./commonjs.mjs";
import { root } from "./ensure.mjs";

const require = createRequire(import.meta.url);
// What stands in them is needed by `import` itself.
const REQUIRED = ["node:fs", "node:util"];
// Of these, functions alone are used, and late or never: the module is required at the first call.
const REQUIRED_LATE = ["node:fs/promises", "node:worker_threads"];
const from = path.join(root, "dist");

/** @param {string} to A copy of dist/: its modules are replaced by index.js and cli.js; generated/ stays as it is. */
export async function makeModules(to) {
  for (const name of fs.readdirSync(to, { recursive: true })) {
    const loader = name.split(path.sep)[0] === "generated";
    if (!loader && /\.js(\.map)?$/.test(name)) fs.rmSync(path.join(to, name));
  }
  const index = path.join(from, "index.js");
  await bundle(index, to, {}, licences());
  // The program uses the package as anybody would: beside it, and not once more within.
  await bundle(path.join(from, "cli.js"), to, { [index]: "./index.js" });
}

/** A module with the functions of `name`, one of Node's, and with what else it has at once. */
function required(name) {
  const late = REQUIRED_LATE.includes(name);
  const module = require(name);
  const code = [
    'import { createRequire } from "node:module";',
    // The second for a Node that is too old, which is to hear so from runtime.ts.
    `const load = () => process.getBuiltinModule?.("${name}") ?? createRequire(import.meta.url)("${name}");`,
    "const ofCall = (key) => (...args) => load()[key](...args);",
    "const of = (key) => load()[key];",
  ];
  for (const [key, { value, get }] of Object.entries(Object.getOwnPropertyDescriptors(module))) {
    // With "_": constants, which Node complains of when they are read (`fs.F_OK`).
    if (key === "default" || !/^[a-z0-9]+$/i.test(key)) continue;
    // Behind a getter is what Node loads when it is asked for.
    const deferred = late || get !== undefined;
    if (deferred && typeof (get ? module[key] : value) !== "function") continue;
    code.push(`export const ${key} = /* @__PURE__ */ ${deferred ? "ofCall" : "of"}("${key}");`);
  }
  return code.join("\n");
}

async function bundle(input, dir, beside, banner = "") {
  const made = await rolldown({
    input,
    platform: "node",
    external: ["apache-arrow", "yaml", "smol-toml", "@opentelemetry/api", /\.node$/],
    plugins: [
      {
        name: "builtins",
        resolveId: {
          order: "pre",
          handler: (id) =>
            REQUIRED.includes(id) || REQUIRED_LATE.includes(id)
              ? { id: `\0${id}`, moduleSideEffects: false }
              : null,
        },
        load: (id) => (id.startsWith("\0node:") ? required(id.slice(1)) : null),
      },
      {
        name: "beside",
        resolveId(id, importer) {
          if (id === "./generated/index.js") return { id, external: true };
          const file = importer && id.startsWith(".") ? path.resolve(path.dirname(importer), id) : undefined;
          return file in beside ? { id: beside[file], external: true } : null;
        },
        // With the maps of tsc, so that those of the bundle lead to src-ts.
        load(id) {
          if (!fs.existsSync(`${id}.map`)) return null;
          return { code: fs.readFileSync(id, "utf8"), map: fs.readFileSync(`${id}.map`, "utf8") };
        },
      },
    ],
    // What is not found would be taken for external, and be missed by the first who imports it.
    onwarn(warning) {
      throw new Error(warning.message);
    },
  });
  await made.write({
    dir,
    banner,
    format: "esm",
    entryFileNames: "[name].js",
    codeSplitting: false,
    sourcemap: true,
    // As seen from dist/ of the package, wherever this was made.
    sourcemapPathTransform: (source, map) =>
      path.relative(from, path.resolve(path.dirname(map), source)).replaceAll(path.sep, "/"),
  });
  await made.close();
  const file = path.join(dir, path.basename(input));
  fs.writeFileSync(file, ascii(fs.readFileSync(file, "utf8")));
}

/** In strings, templates, expressions and comments it means the same. */
function ascii(code) {
  const escaped = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return code.replaceAll(/[^\0-\x7f]/g, escaped);
}
