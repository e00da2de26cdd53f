// dist/ as few modules: what the published package has. Node spends more time on finding, reading and linking fifty
// files than on what stands in them; one file halves what `import "arrow-ingest"` costs.
import * as fs from "node:fs";
import * as path from "node:path";
import { rolldown } from "rolldown";
import { root } from "./ensure.mjs";

const from = path.join(root, "dist");

/** @param {string} to A copy of dist/: its modules are replaced by index.js and cli.js; generated/ stays as it is. */
export async function makeModules(to) {
  for (const name of fs.readdirSync(to, { recursive: true })) {
    const loader = name.split(path.sep)[0] === "generated";
    if (!loader && /\.js(\.map)?$/.test(name)) fs.rmSync(path.join(to, name));
  }
  const index = path.join(from, "index.js");
  await bundle(index, to, {});
  // The program uses the package as anybody would: beside it, and not once more within.
  await bundle(path.join(from, "cli.js"), to, { [index]: "./index.js" });
}

async function bundle(input, dir, beside) {
  const made = await rolldown({
    input,
    platform: "node",
    external: ["apache-arrow", "p-retry", "yaml", "smol-toml", "@opentelemetry/api", /\.node$/],
    plugins: [
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
    format: "esm",
    entryFileNames: "[name].js",
    codeSplitting: false,
    sourcemap: true,
    // As seen from dist/ of the package, wherever this was made.
    sourcemapPathTransform: (source, map) =>
      path.relative(from, path.resolve(path.dirname(map), source)).replaceAll(path.sep, "/"),
  });
  await made.close();
}
