// bench/soak.mjs: what it samples, and that it finds what grows.
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { expect, test } from "vitest";
import { judged, METERS } from "../../bench/soak.mjs";
import { trend } from "../../bench/trend.mjs";
import { PYTHON, testWith } from "../interop/support/peer.js";

const root = path.resolve(import.meta.dirname, "../..");
const noise = (at: number) => ((Math.imul(at + 7, 2_654_435_761) >>> 0) / 2 ** 32 - 0.5) * 10;
const series = (value: (at: number) => number) =>
  Array.from({ length: 40 }, (_, at): [number, number] => [at, value(at)]);

test("a line that rises is a trend, noise, steps down and single outliers are none", () => {
  const tolerance = { more: 10, share: 0.1 };
  expect(
    trend(
      series((at) => 100 + at + noise(at)),
      tolerance,
    ),
  ).toMatchObject({ grows: true });
  expect(
    trend(
      series((at) => 100 + noise(at)),
      tolerance,
    ).grows,
  ).toBe(false);
  expect(
    trend(
      series((at) => 100 - at),
      tolerance,
    ).grows,
  ).toBe(false);
  expect(
    trend(
      series((at) => (at === 39 ? 1e6 : 100)),
      tolerance,
    ).grows,
  ).toBe(false);
  // Steady, but less than what is no growth.
  expect(
    trend(
      series((at) => 100 + at / 10),
      tolerance,
    ).grows,
  ).toBe(false);
  const { first, last } = trend(
    series((at) => 100 + 2 * at),
    tolerance,
  );
  expect([first, last]).toEqual([100, 178]);
  expect(() => trend(series(() => 1).slice(0, 7), tolerance)).toThrow("7 samples");
});

test("what grows while caches fill is not judged, and what cannot be sampled is no trend", () => {
  const samples = Array.from({ length: 60 }, (_, at) => ({
    second: at,
    rssMiB: at < 20 ? 50 + 10 * at : 250,
    cpuUsPerDelivery: at === 30 ? null : 100,
    descriptors: 20 + at,
    threads: 12,
    delayP99Ms: 5,
  }));
  const meters: Record<string, { grows: boolean }> = judged(samples);
  expect(Object.keys(meters)).toEqual(Object.keys(METERS));
  expect(Object.entries(meters).filter(([, row]) => row.grows)).toMatchObject([["descriptors", {}]]);
});

test("a short run samples all there is, and a planted leak fails it", async () => {
  const results = fs.mkdtempSync(path.join(os.tmpdir(), "soak-test-"));
  const args = ["bench/soak.mjs", "--minutes", "0.17", "--target", "discard", "--results", results];
  const child = spawn(process.execPath, [...args, "--plant", "20"], { cwd: root });
  let said = "";
  child.stderr.on("data", (chunk) => {
    said += chunk;
  });
  const code = await new Promise((resolve) => child.on("close", resolve));
  expect(code, said).toBe(1);
  const file = fs.readdirSync(results).find((name) => name.endsWith("-soak-discard.json"));
  const { targets } = JSON.parse(fs.readFileSync(path.join(results, file ?? ""), "utf8"));
  const { meters, samples, deliveries } = targets.discard;
  expect(meters.rssMiB.grows).toBe(true);
  expect(deliveries).toBeGreaterThan(100);
  expect(samples.length).toBeGreaterThan(20);
  for (const sample of samples) {
    const sampled = [
      "rssMiB",
      ...(process.platform === "linux" ? ["descriptors", "threads"] : []),
      "delayP99Ms",
    ];
    for (const meter of sampled) expect(sample[meter], meter).toBeGreaterThan(0);
  }
  expect(samples.some((sample: { cpuUsPerDelivery: number }) => sample.cpuUsPerDelivery > 0)).toBe(true);
});

test("a target has a server, and a client that reaches it: delta", () => reaches("delta"));
test("a target has a server, and a client that reaches it: zerobus", () => reaches("zerobus"));
testWith(PYTHON, "a target has a server, and a client that reaches it: flight", () => reaches("flight"));

async function reaches(target: string): Promise<void> {
  const results = fs.mkdtempSync(path.join(os.tmpdir(), "soak-test-"));
  const args = ["--minutes", "0.07", "--rate", "20", "--target", target, "--results", results];
  const child = spawn(process.execPath, ["bench/soak.mjs", ...args], { cwd: root, stdio: "ignore" });
  await new Promise((resolve) => child.on("close", resolve));
  // What grows in four seconds is no matter; that something was delivered is.
  const file = fs.readdirSync(results).find((name) => name.endsWith(`-soak-${target}.json`));
  const written = JSON.parse(fs.readFileSync(path.join(results, file ?? target), "utf8"));
  expect(written.targets[target].deliveries, target).toBeGreaterThan(0);
}

test("what it is asked for must be something", async () => {
  for (const args of [
    ["--target", "nowhere"],
    ["--minutes", "0"],
    ["--rate", "many"],
  ]) {
    const child = spawn(process.execPath, ["bench/soak.mjs", ...args], { cwd: root });
    expect(await new Promise((resolve) => child.on("close", resolve))).toBe(2);
  }
});
