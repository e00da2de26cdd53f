// Preloaded by tests/rs/host.rs: whoever asks for the arrow-ingest addon gets the file in ARROW_INGEST_ADDON.
// (napi's own NAPI_RS_NATIVE_LIBRARY_PATH would also replace the addon of vitest's bundler, and of whatever
// else was made with napi.)
const Module = require("node:module");

const resolve = Module._resolveFilename;
Module._resolveFilename = function (request, ...rest) {
  const ours = /(^|[/\\])arrow-ingest\.[\w-]+\.node$/.test(request);
  return ours ? process.env.ARROW_INGEST_ADDON : resolve.call(this, request, ...rest);
};
