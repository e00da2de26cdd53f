#!/usr/bin/env bash
# At least 90 % of the lines of every file, in both languages, the native boundary included (R-50).
#
# One run measures both: cargo-tarpaulin builds an instrumented addon and runs the Rust tests; one of them,
# tests/rs/host.rs, starts Node under c8 with the vitest suite and that addon. So lines of src-rs/binding
# that only Node can reach are counted, and lines of src-ts too.
#
# Leaves coverage/{rust,ts}/ with HTML, Cobertura XML and LCOV, and coverage/badge.json (shields endpoint).
set -euo pipefail
cd "$(dirname "$0")/.."

# c8 measures what Node itself loads, so the tests import dist/ (vitest.config.ts keeps Vite away from it)
# and source maps lead back to src-ts. The package test builds and installs, and what
# runs in WebAssembly is seen by neither tool: they measure nothing here.
# An instrumented debug addon is several times slower than what users get: hence the patience.
if [ "${1:-}" = --in-node ]; then
  c8 --reporter=html --reporter=cobertura --reporter=lcovonly --reports-dir=coverage/ts \
    --temp-directory=target/coverage/c8 '--include=src-ts/**' '--exclude=src-ts/generated/**' --exclude-after-remap \
    node node_modules/vitest/vitest.mjs run '--exclude=tests/package/**' '--exclude=tests/wasm/**' --testTimeout=300000 ||
    touch coverage/node-failed
  exit 0
fi

VERSION=0.37.5
tarpaulin=.tools/bin/cargo-tarpaulin
if [ "$("$tarpaulin" --version 2>/dev/null)" != "tarpaulin $VERSION" ]; then
  echo "› installing cargo-tarpaulin $VERSION into .tools (a few minutes, once)"
  cargo install --quiet --locked --force --root .tools "cargo-tarpaulin@$VERSION"
fi

node scripts/ensure.mjs dist python servers
failed=0
rm -rf coverage target/coverage/c8
mkdir -p coverage/rust coverage/ts target/coverage
log=target/coverage/log
: >"$log"

# Its failure is noted and not passed on: tarpaulin throws away what a failed test has covered, and the
# report would blame files that are well tested.
export ARROW_INGEST_HOST="bash scripts/check_coverage.sh --in-node"

# Its own target folder: the flags differ, and cargo would build everything anew, back and forth.
# The addon must be named by --objects, or the lines that ran inside Node are thrown away.
RUSTC_WRAPPER="$PWD/scripts/coverage_rustc.sh" "$tarpaulin" tarpaulin \
  --engine llvm --target-dir target/coverage --objects target/coverage/debug/deps/libarrow_ingest.so \
  --include-files 'src-rs/*' --skip-clean --timeout 3600 --no-fail-fast \
  --out Html --out Xml --out Lcov --output-dir coverage/rust >"$log" 2>&1 &
run=$!
# Not through a pipe: a server that a failed test has left behind would keep it open, and this waiting.
tail -n +1 -f "$log" &
shown=$!
# In the background they do not hear of an interrupt.
trap 'kill "$run" "$shown"; exit 130' INT TERM
wait "$run" || failed=1
sleep 1
kill "$shown" || true

if [ -e coverage/node-failed ]; then failed=1; fi
# Said even when a test failed: who mends the one wants to see the other.
node scripts/coverage_gate.mjs coverage/ts/lcov.info coverage/rust/lcov.info || failed=1
node scripts/what_failed.mjs "$log"
if [ "$failed" -ne 0 ]; then echo "✗ the coverage run failed: a test above, or a file below the floor" >&2; fi
exit "$failed"
