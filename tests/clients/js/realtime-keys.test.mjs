// fal.realtime against a server that requires keys: the client connects with a token, and gets a new one after a wrong
// or expired one. Starts its own server.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before } from "node:test";
import WS from "ws";
import { OwnServer } from "./server.mjs";
import { ENDPOINT, assertOutput, small } from "./support.mjs";
import { test, wire } from "./wire.mjs";

const LIMIT = { timeout: 60_000 };
const server = new OwnServer();
const sockets = [];
let key;

before(async () => {
  key = server.keys("create");
  await server.start();
  globalThis.WebSocket = class extends WS {
    constructor(url, ...rest) {
      super(String(url).replace("wss://fal.run/", `${server.url.replace("http", "ws")}/`), ...rest);
      sockets.push(this);
    }
  };
}, LIMIT);

after(() => server.stop());

async function token(app, seconds) {
  const response = await fetch(`${server.url}/tokens/`, {
    method: "POST",
    headers: { authorization: `Key ${key}` },
    body: JSON.stringify({ allowed_apps: [app], token_expiration: seconds }),
  });
  return response.json();
}

/** A connection with tokens of `tokenProvider`; `next` awaits one result or error at a time. */
function connect(tokenProvider) {
  const happened = [];
  const waiting = [];
  const happen = (what) => (waiting.length ? waiting.shift()(what) : happened.push(what));
  const connection = server.client(key).realtime.connect(ENDPOINT, {
    // The client's throttle sometimes drops an input: a timer of Node may fire a millisecond early by the clock that the
    // throttle reads (@fal-ai/client src/utils.js, `throttle`).
    throttleInterval: 0,
    onResult: (result) => happen({ result }),
    onError: (error) => happen({ error }),
    ...(tokenProvider ? { tokenProvider } : {}),
  });
  const next = () => (happened.length ? happened.shift() : new Promise((resolve) => waiting.push(resolve)));
  return { ...connection, next, happened };
}

test("the client connects with a token that it fetches itself", LIMIT, async () => {
  const connection = connect();
  connection.send(small());
  assertOutput((await connection.next()).result, small());
  connection.close();
});

test("a wrong token is an error, and the next input fetches another", LIMIT, async () => {
  const asked = [];
  const connection = connect(async (app) => (asked.push(app) === 1 ? token("another", 60) : token(app, 60)));
  connection.send(small());
  const { error } = await connection.next();
  assert.deepEqual([error.status, error.message], [1008, "Error closing the connection: Unauthorized"]);
  const { frames } = await wire.call("GET", "/realtime");
  assert.deepEqual(frames.find(({ kind }) => kind === "close"), { from: "server", kind: "close", bytes: 14, code: 1008, text: "Unauthorized" });
  connection.send(small());
  assertOutput((await connection.next()).result, small());
  assert.deepEqual(asked, [`${ENDPOINT}/realtime`, `${ENDPOINT}/realtime`]);
  connection.close();
});

test("a connection closes when its token expires, and the next input reconnects without an error", LIMIT, async () => {
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

test("a server that stops closes the connection without an error", LIMIT, async () => {
  const connection = connect();
  connection.send(small());
  await connection.next();
  const closed = once(sockets.at(-1), "close");
  await server.end();
  assert.equal((await closed)[0], 1000);
  assert.deepEqual(connection.happened, []);
});
