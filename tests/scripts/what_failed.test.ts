import { describe, expect, it } from "vitest";
import { whatFailed } from "../../scripts/what_failed.mjs";

describe("what is said at the end of a run that failed", () => {
  it("names what was stopped, and the test that it hung in", () => {
    const said = whatFailed(
      [
        "     Running tests/rs/spool.rs (target/debug/deps/spool-0)",
        "test damage::a has been running for over 60 seconds",
        "test damage::b has been running for over 60 seconds",
        "test damage::b ... ok",
        "\n✗ cargo test --no-fail-fast was stopped: it had not ended in 20 minutes.",
      ].join("\n"),
    );
    expect(said).toContain("cargo test --no-fail-fast was stopped");
    expect(said).toContain("damage::a");
    expect(said).not.toContain("damage::b");
  });

  it("shows what a compiler refused", () => {
    expect(whatFailed("error[E0599]: no method named `a`\n  --> src-rs/lib.rs:1:1")).toContain("E0599");
  });

  it("is nothing where nothing failed", () => {
    expect(whatFailed("test a ... ok\ntest result: ok. 1 passed; 0 failed")).toBe("");
  });
});
