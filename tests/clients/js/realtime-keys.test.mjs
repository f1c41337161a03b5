// fal.realtime against a server that wants keys: a token opens, a wrong or ended one has the client ask for another.
// Starts a server of its own.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before } from "node:test";
import { createFalClient } from "@fal-ai/client";
import WS from "ws";
import { ENDPOINT, assertOutput, small } from "./support.mjs";
import { test } from "./wire.mjs";

const LIMIT = { timeout: 60_000 };
const PROGRAM = process.env.LATENTD_BIN;
const data = mkdtempSync(join(tmpdir(), "latentd-realtime-"));
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("LATENTD_")));
const sockets = [];
let server, base, key;

before(async () => {
  key = execFileSync(PROGRAM, ["keys", "create", "--data-dir", data], { env, encoding: "utf8" }).trim();
  const args = ["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir", data];
  server = spawn(PROGRAM, args, { env, stdio: ["ignore", "pipe", "inherit"] });
  const [first] = await once(createInterface({ input: server.stdout }), "line");
  base = first.match(/http:\S+/)[0];
  while (!(await fetch(`${base}/health/ready`)).ok) await new Promise((resolve) => setTimeout(resolve, 50));
  globalThis.WebSocket = class extends WS {
    constructor(url, ...rest) {
      super(String(url).replace("wss://fal.run/", `${base.replace("http", "ws")}/`), ...rest);
      sockets.push(this);
    }
  };
}, LIMIT);

after(async () => {
  server.kill("SIGTERM");
  if (server.exitCode === null) await once(server, "exit");
  rmSync(data, { recursive: true });
});

async function token(app, seconds) {
  const response = await fetch(`${base}/tokens/`, {
    method: "POST",
    headers: { authorization: `Key ${key}` },
    body: JSON.stringify({ allowed_apps: [app], token_expiration: seconds }),
  });
  return response.json();
}

/** A connection with the tokens of `provider`; results and errors are awaited one by one. */
function connect(tokenProvider) {
  const happened = [];
  const waiting = [];
  const happen = (what) => (waiting.length ? waiting.shift()(what) : happened.push(what));
  const fal = createFalClient({ credentials: key, proxyUrl: { url: `${base}/api/fal/proxy`, when: "always" } });
  const connection = fal.realtime.connect(ENDPOINT, {
    onResult: (result) => happen({ result }),
    onError: (error) => happen({ error }),
    ...(tokenProvider ? { tokenProvider } : {}),
  });
  const next = () => (happened.length ? happened.shift() : new Promise((resolve) => waiting.push(resolve)));
  return { ...connection, next, happened };
}

test("the client's own token opens", LIMIT, async () => {
  const connection = connect();
  connection.send(small());
  assertOutput((await connection.next()).result, small());
  connection.close();
});

test("a wrong token is an error, and the next input asks for another", LIMIT, async () => {
  const asked = [];
  const connection = connect(async (app) => (asked.push(app) === 1 ? token("another", 60) : token(app, 60)));
  connection.send(small());
  const { error } = await connection.next();
  assert.deepEqual([error.status, error.message], [1008, "Error closing the connection: Unauthorized"]);
  connection.send(small());
  assertOutput((await connection.next()).result, small());
  assert.deepEqual(asked, [`${ENDPOINT}/realtime`, `${ENDPOINT}/realtime`]);
  connection.close();
});

test("a connection ends with its token, and the next input opens another without an error", LIMIT, async () => {
  let asked = 0;
  const connection = connect(async (app) => token(app, (asked += 1) === 1 ? 5 : 60));
  connection.send(small());
  assertOutput((await connection.next()).result, small());
  const [code] = await once(sockets.at(-1), "close");
  assert.equal(code, 1000);
  connection.send(small());
  assertOutput((await connection.next()).result, small());
  assert.deepEqual([asked, connection.happened], [2, []]);
  connection.close();
});

test("a server that stops is no error", LIMIT, async () => {
  const connection = connect();
  connection.send(small());
  await connection.next();
  const [closed, ended] = [once(sockets.at(-1), "close"), once(server, "exit")];
  server.kill("SIGTERM");
  assert.equal((await closed)[0], 1000);
  assert.deepEqual(await ended, [0, null]);
  assert.deepEqual(connection.happened, []);
});
