// A server that requires keys: keys of `latentd keys create` are accepted, tokens are accepted for their application,
// and a key's concurrency limit holds. Starts its own server.

import assert from "node:assert/strict";
import { after, before } from "node:test";
import { ApiError, createFalClient } from "@fal-ai/client";
import { OwnServer } from "./server.mjs";
import { ENDPOINT, assertOutput, endless, small, until, waysTo } from "./support.mjs";
import { test, wire } from "./wire.mjs";

const LIMIT = { timeout: 120_000 };
const server = new OwnServer();
const keys = (...args) => server.keys(...args);
let base;

before(async () => {
  keys("create", "--name", "first");
  await server.start();
  base = server.url;
}, LIMIT);

after(() => server.stop());

/** A new key, once the server accepts it. */
async function newKey(...args) {
  const key = keys("create", ...args);
  await statusIs(key, 404);
  return key;
}

/** Waits until a call for an unknown request has this status: 404 if the key is accepted, 401 if not. */
async function statusIs(key, status) {
  const url = `${base}/requests/00000000-0000-4000-8000-000000000000`;
  const deadline = Date.now() + 10_000;
  while ((await fetch(url, { headers: { authorization: `Key ${key}` } })).status !== status) {
    assert.ok(Date.now() < deadline, `never ${status}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const byProxy = (credentials) => createFalClient(waysTo(base, credentials).proxyUrl);

/** A client that sends every call here by `fetch`, also those with a token. */
const byFetch = (credentials) => createFalClient(waysTo(base, credentials).fetch);

const refused = (status) => (error) => {
  assert.ok(error instanceof ApiError, String(error));
  assert.equal(error.status, status);
  return true;
};

test("a key opens the queue, run and stream", LIMIT, async () => {
  const fal = byProxy(await newKey());
  assertOutput((await fal.subscribe(ENDPOINT, { input: small() })).data, small());
  assertOutput((await fal.run(ENDPOINT, { input: small() })).data, small());
  assertOutput(await (await fal.stream(ENDPOINT, { input: small() })).done(), small());
});

test("a wrong key and a missing key are a 401", LIMIT, async () => {
  const [id] = (await newKey()).split(":");
  for (const credentials of [`${id}:${"0".repeat(32)}`, "no:key", undefined]) {
    const fal = byProxy(credentials);
    await assert.rejects(fal.run(ENDPOINT, { input: small() }), refused(401));
    await assert.rejects(fal.queue.submit(ENDPOINT, { input: small() }), refused(401));
    await assert.rejects(fal.storage.upload(new Blob(["x"])), refused(401));
  }
});

test("a revoked key is a 401 while the server runs on", LIMIT, async () => {
  const key = await newKey();
  const fal = byProxy(key);
  const { request_id: requestId } = await fal.queue.submit(ENDPOINT, { input: small() });
  keys("revoke", key.split(":")[0]);
  await statusIs(key, 401);
  await assert.rejects(fal.queue.status(ENDPOINT, { requestId }), refused(401));
  const other = byProxy(await newKey());
  await until(other, requestId, ({ status }) => status === "COMPLETED");
});

test("a stream in connection mode client sends a token and not the key", LIMIT, async () => {
  const key = await newKey();
  const stream = await byFetch(key).stream(ENDPOINT, { input: small(), connectionMode: "client" });
  assertOutput(await stream.done(), small());
  const asked = await wire.call("POST", "^/tokens/$");
  assert.equal(asked.headers.authorization, `Key ${key}`);
  assert.deepEqual(asked.body, { allowed_apps: ["stable-diffusion-v35-large"], token_expiration: 120 });
  const streamed = await wire.call("POST", "/stream");
  assert.equal(streamed.headers.authorization, undefined);
  const { pathname, searchParams } = new URL(streamed.url, base);
  assert.equal(pathname, `/${ENDPOINT}/stream`);
  const token = searchParams.get("fal_jwt_token");
  assert.equal(token.split(".").length, 3);

  const post = (path) =>
    fetch(`${base}${path}?fal_jwt_token=${token}`, { method: "POST", body: JSON.stringify(small()) });
  const run = await post(`/${ENDPOINT}`);
  assert.equal(run.status, 200);
  assertOutput(await run.json(), small());
  for (const path of [`/queue/${ENDPOINT}`, "/fal-ai/another", "/tokens/", "/storage/upload/initiate"]) {
    assert.equal((await post(path)).status, 401, path);
  }
  keys("revoke", key.split(":")[0]);
  await statusIs(key, 401);
  assert.equal((await post(`/${ENDPOINT}`)).status, 401, "a token is revoked with its key");
});

test("a key at its limit: queued requests wait, and a direct run is a 429", LIMIT, async () => {
  const limited = byProxy(await newKey("--concurrency", "1"));
  const { request_id: requestId } = await limited.queue.submit(ENDPOINT, { input: endless() });
  await until(limited, requestId, ({ status }) => status === "IN_PROGRESS");
  await assert.rejects(limited.run(ENDPOINT, { input: small() }), (error) => {
    assert.equal(error.body.error_type, "concurrent_requests_limit");
    return refused(429)(error);
  });
  assert.equal((await wire.calls("POST", "^/run|^/fal-ai")).length, 4, "it was tried four times");
  const second = (await limited.queue.submit(ENDPOINT, { input: small() })).request_id;
  await limited.queue.cancel(ENDPOINT, { requestId });
  await until(limited, second, ({ status }) => status === "COMPLETED");
  assertOutput((await limited.run(ENDPOINT, { input: small() })).data, small());
});
