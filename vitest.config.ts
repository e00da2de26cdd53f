import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/**/*.test.ts"],
    // c8 sees only what Node itself loads: tests import the built dist/, and Vite must leave it alone.
    server: { deps: { external: [/\/dist\//] } },
    // With "forks" the coverage of the workers is lost: they are killed before they write it.
    pool: "threads",
    // Two cores, and an addon with its own thread pool: more workers make timings, not tests, faster.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // A test left out by `.only` would pass for the whole suite.
    allowOnly: !process.env.CI,
  },
});
