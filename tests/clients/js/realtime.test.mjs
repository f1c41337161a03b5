// fal.realtime: inputs and results over a web socket, its errors, and its tokens.

import assert from "node:assert/strict";
import { after } from "node:test";
import { ApiError } from "@fal-ai/client";
import WS from "ws";
import { BASE, ENDPOINT, WAYS, assertOutput, client, download, small } from "./support.mjs";
import { test, wire } from "./wire.mjs";

const LIMIT = { timeout: 60_000 };
const sockets = [];

// As docs/fal-api.md recommends.
globalThis.WebSocket = class extends WS {
  constructor(url, ...rest) {
    super(String(url).replace("wss://fal.run/", `${BASE.replace("http", "ws")}/`), ...rest);
    sockets.push(this);
  }
};

after(() => sockets.forEach((socket) => socket.terminate()));

/** A connection; `next` awaits one result or error at a time. */
function connect(fal, options = {}) {
  const happened = [];
  const waiting = [];
  const happen = (what) => (waiting.length ? waiting.shift()(what) : happened.push(what));
  const connection = fal.realtime.connect(ENDPOINT, {
    throttleInterval: 0,
    onResult: (result) => happen({ result }),
    onError: (error) => happen({ error }),
    ...options,
  });
  const next = () => (happened.length ? happened.shift() : new Promise((resolve) => waiting.push(resolve)));
  return { ...connection, next, happened };
}

test("inputs and results", LIMIT, async () => {
  const connection = connect(client());
  for (const name of ["first", "second"]) {
    connection.send(small({ request_id: name }));
    const { result } = await connection.next();
    assertOutput(result, small());
    assert.equal(result.request_id, name);
    await download(result.images[0]);
  }
  connection.close();
  const asked = await wire.call("POST", "^/tokens/");
  assert.deepEqual(asked.body, { allowed_apps: ["stable-diffusion-v35-large"], token_expiration: 120 });
  const call = await wire.call("GET", "/realtime");
  assert.equal(call.url, `/${ENDPOINT}/realtime?fal_jwt_token=${encodeURIComponent(JSON.parse(asked.answer))}`);
  assert.equal(call.headers.authorization, undefined);
  const kinds = call.frames.map(({ from, kind }) => `${from} ${kind}`);
  assert.deepEqual(kinds.slice(0, 4), ["client binary", "server binary", "client binary", "server binary"]);
});

test("several at once, in order", LIMIT, async () => {
  const connection = connect(client(), { maxBuffering: 60 });
  connection.send(small({ request_id: "0" }));
  await connection.next();
  for (const name of ["1", "2", "3", "4"]) connection.send(small({ request_id: name }));
  for (const name of ["1", "2", "3", "4"]) assert.equal((await connection.next()).result.request_id, name);
  connection.close();
  assert.match((await wire.call("GET", "/realtime")).url, /[?&]max_buffering=60$/);
});

test("JSON both ways, on another path", LIMIT, async () => {
  const kinds = [];
  const decodeMessage = (data) => (kinds.push(typeof data), JSON.parse(data));
  const connection = connect(client(), { path: "/turbo/realtime", encodeMessage: JSON.stringify, decodeMessage });
  connection.send(small());
  assertOutput((await connection.next()).result, small());
  assert.deepEqual(kinds, ["string"]);
  connection.close();
  const call = await wire.call("GET", "/turbo/realtime");
  const frames = call.frames.filter(({ kind }) => kind === "text");
  assert.deepEqual(frames.map(({ from }) => from), ["client", "server"]);
  assert.deepEqual(JSON.parse(frames[0].text), small());
});

test("an image inside the result, as a data URI or as bytes", LIMIT, async () => {
  const connection = connect(client());
  connection.send(small({ sync_mode: true }));
  assert.match((await connection.next()).result.images[0].url, /^data:image\/jpeg;base64,\/9j/);
  // fal's realtime demo requests bytes in this way.
  connection.send(small({ sync_mode: true, _force_msgpack: new Uint8Array([]) }));
  const { content } = (await connection.next()).result.images[0];
  assert.deepEqual([...content.subarray(0, 2)], [0xff, 0xd8]);
  connection.close();
});

test("an error does not close the connection", LIMIT, async () => {
  const connection = connect(client());
  const before = sockets.length;
  connection.send(small({ num_images: 9, request_id: "wrong" }));
  const { error } = await connection.next();
  assert.ok(error instanceof ApiError);
  assert.match(error.message, /^INVALID_INPUT: num_images: Input should be/);
  assert.equal(error.body.request_id, "wrong");
  connection.send(small());
  assertOutput((await connection.next()).result, small());
  assert.equal(sockets.length, before + 1);
  connection.close();
});

test("a closed connection reconnects at the next input without an error", LIMIT, async () => {
  const connection = connect(client());
  connection.send(small());
  await connection.next();
  const closed = new Promise((resolve) => sockets.at(-1).on("close", resolve));
  sockets.at(-1).close(1000);
  await closed;
  connection.send(small());
  assertOutput((await connection.next()).result, small());
  assert.deepEqual(connection.happened, []);
  connection.close();
});

test("the older client", LIMIT, async (t) => {
  // Its token timer would keep this process alive.
  const { setTimeout } = globalThis;
  globalThis.setTimeout = (...args) => setTimeout(...args).unref();
  t.after(() => Object.assign(globalThis, { setTimeout }));
  const { createFalClient } = await import("fal-client-1.2");
  const connection = connect(createFalClient(WAYS.requestMiddleware));
  connection.send(small());
  assertOutput((await connection.next()).result, small());
  connection.close();
});
