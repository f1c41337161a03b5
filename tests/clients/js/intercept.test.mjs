// Unmodified programs in the environment of `latentd env`, under the Node that runs this file and under Node 24: this
// server answers all their calls, and nothing leaves this machine.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { ENDPOINT, small } from "./support.mjs";
import { test } from "./wire.mjs";

const LIMIT = { timeout: 120_000 };
const HERE = fileURLToPath(new URL(".", import.meta.url));
const NODES = { "this Node": process.execPath, "Node 24": join(HERE, "node_modules/node/bin/node") };
const place = mkdtempSync(join(tmpdir(), "latentd-intercept-"));
let count = 0;

after(() => rmSync(place, { recursive: true }));

/** Runs a program in a shell that evaluated `latentd env`; `change` is what the shell does after that. */
async function run(node, program, { args = [ENDPOINT, JSON.stringify(small())], change = ":" } = {}) {
  const connectionLog = join(place, String((count += 1)));
  const script = `eval "$("$LATENTD_BIN" env --data-dir "$LATENTD_DATA")"; ${change}; exec "$0" "$@"`;
  const { LATENTD_BIN, LATENTD_DATA, PATH, HOME } = process.env;
  const NODE_OPTIONS = `--require ${join(HERE, "programs/record-connections.cjs")}`;
  const env = { LATENTD_BIN, LATENTD_DATA, PATH, HOME, CONNECTION_LOG: connectionLog, NODE_OPTIONS, FAL_KEY: "key:of-fal" };
  const printed = await new Promise((resolve) => {
    const done = (error, stdout, stderr) => resolve({ code: error?.code ?? 0, stdout, stderr });
    execFile("sh", ["-c", script, node, ...program, ...args], { cwd: HERE, env, timeout: 60_000 }, done);
  });
  const seen = readFileSync(connectionLog, "utf8").trim().split("\n");
  return { ...printed, seen };
}

/** Checks that the program connected only to the intercept port. */
function assertStayedHere({ seen }) {
  const { address } = JSON.parse(readFileSync(join(process.env.LATENTD_DATA, "intercept/running.json")));
  assert.deepEqual([...new Set(seen)], [`connect ${address}`]);
}

for (const [name, node] of Object.entries(NODES)) {
  test(`subscribe, stream, run, upload and cancel, unmodified program, ${name}`, LIMIT, async () => {
    const ran = await run(node, ["programs/unmodified.mjs"]);
    assert.equal(ran.code, 0, ran.stderr);
    const printed = JSON.parse(ran.stdout);
    assert.equal(printed.images.length, 3);
    for (const { url, type } of printed.images) {
      assert.match(url, /^https:\/\/v3\.fal\.media\/files\/[0-9a-f]{32}\.jpeg$/);
      assert.equal(type, "image/jpeg");
    }
    assert.ok(printed.events >= 2, `${printed.events} events`);
    assert.match(printed.uploaded, /^https:\/\/v3\.fal\.media\/files\//);
    assert.equal(printed.read, "words");
    assertStayedHere(ran);
  });

  test(`a program with its own agent, ${name}`, LIMIT, async () => {
    const ran = await run(node, ["programs/own-agent.mjs"]);
    assert.equal(ran.code, 0, ran.stderr);
    const printed = JSON.parse(ran.stdout);
    assert.equal(printed.status, 200);
    assert.ok(printed.bytes > 500, `${printed.bytes} bytes`);
    assertStayedHere(ran);
  });
}

test("without the preload an older Node looks up fal's hosts", LIMIT, async () => {
  const change = `export NODE_OPTIONS="--require ${join(HERE, "programs/record-connections.cjs")}"; unset NODE_USE_ENV_PROXY`;
  const program = ["--input-type=module", "-e", "await fetch('https://fal.run/x')"];
  const ran = await run(process.execPath, program, { args: [], change });
  assert.notEqual(ran.code, 0);
  assert.deepEqual(ran.seen, ["lookup fal.run"]);
});

test("the proxy alone is enough for Node 24", LIMIT, async () => {
  const change = `export NODE_OPTIONS="--require ${join(HERE, "programs/record-connections.cjs")}"`;
  const ran = await run(NODES["Node 24"], ["programs/unmodified.mjs"], { change });
  assert.equal(ran.code, 0, ran.stderr);
  assertStayedHere(ran);
});

test("other hosts are not intercepted", LIMIT, async () => {
  const program = ["--input-type=module", "-e", "await fetch('https://example.com/')"];
  const proxied = await run(NODES["Node 24"], program, { args: [] });
  assert.notEqual(proxied.code, 0);
  assertStayedHere(proxied);
  const direct = await run(process.execPath, program, { args: [], change: "unset NODE_USE_ENV_PROXY" });
  assert.deepEqual(direct.seen, ["lookup example.com"]);
});
