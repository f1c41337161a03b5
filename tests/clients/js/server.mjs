// Starts a server for one test file, with flags of its own.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { createFalClient } from "@fal-ai/client";
import { waysTo } from "./support.mjs";
import { wire } from "./wire.mjs";

const PROGRAM = process.env.LATENTD_BIN;
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("LATENTD_")));

/** A data directory and, once started, the server that uses it. */
export class OwnServer {
  data = mkdtempSync(join(tmpdir(), "latentd-own-"));

  /** Starts it and waits until it is ready to generate. */
  async start(...flags) {
    const address = await this.launch(...flags);
    while (!(await fetch(`${address}/health/ready`)).ok) await new Promise((resolve) => setTimeout(resolve, 50));
  }

  /** Starts it; calls to its `url` are recorded. Returns its own address. */
  async launch(...flags) {
    const args = ["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir", this.data, ...flags];
    this.process = spawn(PROGRAM, args, { env, stdio: ["ignore", "pipe", "inherit"] });
    const [first] = await once(createInterface({ input: this.process.stdout }), "line");
    const [address] = first.match(/http:\S+/);
    this.url = await wire.proxyFor(address);
    return address;
  }

  /** Stops it with SIGTERM, which must end it with code 0. */
  async end() {
    const ended = once(this.process, "exit");
    this.process.kill("SIGTERM");
    assert.deepEqual(await ended, [0, null]);
  }

  /** Stops it unless it was stopped, and deletes its data. */
  async stop() {
    if (this.process.exitCode === null) await this.end();
    rmSync(this.data, { recursive: true });
  }

  /** `latentd keys …` on its data. */
  keys(...args) {
    return execFileSync(PROGRAM, ["keys", ...args, "--data-dir", this.data], { env, encoding: "utf8" }).trim();
  }

  /** A client that reaches it by `proxyUrl`. */
  client(credentials = "local:key", more = {}) {
    return createFalClient({ ...waysTo(this.url, credentials).proxyUrl, ...more });
  }
}
