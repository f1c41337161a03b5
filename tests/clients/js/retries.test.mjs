// Calls that fail on the network: which ones @fal-ai/client retries, how often, and what reaches the server.

import assert from "node:assert/strict";
import { ApiError } from "@fal-ai/client";
import { ENDPOINT, assertOutput, client, endless, small, until } from "./support.mjs";
import { withoutWaits } from "./waits.mjs";
import { test, wire } from "./wire.mjs";

const LIMIT = { timeout: 60_000 };
const fal = client("requestMiddleware");
const answer = (status) => ({ status, headers: { "content-type": "application/json" }, body: '{"detail":"broken"}' });
const failed = (status) => (error) => error instanceof ApiError && error.status === status;

for (const status of [429, 502, 503, 504]) {
  test(`run and submit are tried four times on ${status}`, LIMIT, async () => {
    await wire.breakCalls({ method: "POST", times: 8, answer: answer(status) });
    await withoutWaits(async () => {
      await assert.rejects(fal.run(ENDPOINT, { input: small() }), failed(status));
      await assert.rejects(fal.queue.submit(ENDPOINT, { input: small() }), failed(status));
    });
    const urls = (await wire.calls("POST")).map(({ url }) => url);
    assert.deepEqual(urls, [...Array(4).fill(`/${ENDPOINT}`), ...Array(4).fill(`/queue/${ENDPOINT}`)]);
  });
}

test("run and submit are tried once on 500", LIMIT, async () => {
  await wire.breakCalls({ method: "POST", times: 2, answer: answer(500) });
  await assert.rejects(fal.run(ENDPOINT, { input: small() }), failed(500));
  await assert.rejects(fal.queue.submit(ENDPOINT, { input: small() }), failed(500));
  assert.equal((await wire.calls("POST")).length, 2);
});

test("status is tried six times, result four", LIMIT, async () => {
  const { request_id: requestId } = await fal.queue.submit(ENDPOINT, { input: small() });
  await until(fal, requestId, ({ status }) => status === "COMPLETED");
  const before = (await wire.calls("GET")).length;
  await wire.breakCalls({ path: "/status", times: 5, answer: answer(500) });
  await wire.breakCalls({ path: `/${requestId}$`, times: 3, drop: "answer" });
  await withoutWaits(async () => {
    assert.equal((await fal.queue.status(ENDPOINT, { requestId })).status, "COMPLETED");
    assertOutput((await fal.queue.result(ENDPOINT, { requestId })).data, small());
  });
  assert.equal((await wire.calls("GET")).length - before, 6 + 4);
});

test("a submit that never arrives is sent again and is one request", LIMIT, async () => {
  await wire.breakCalls({ method: "POST", times: 3, drop: "call" });
  const { data } = await withoutWaits(() => fal.subscribe(ENDPOINT, { input: small(), pollInterval: 20 }));
  assertOutput(data, small());
  const submits = await wire.calls("POST");
  assert.deepEqual(submits.map(({ status }) => status), [undefined, undefined, undefined, 200]);
});

test("a cancel whose response is lost is sent again and gets ALREADY_COMPLETED", LIMIT, async () => {
  const before = await fal.queue.submit(ENDPOINT, { input: endless() });
  const { request_id: requestId } = await fal.queue.submit(ENDPOINT, { input: small() });
  await wire.breakCalls({ method: "PUT", drop: "answer" });
  await withoutWaits(() => assert.rejects(fal.queue.cancel(ENDPOINT, { requestId }), failed(400)));
  const status = await until(fal, requestId, ({ status }) => status === "COMPLETED");
  assert.equal(status.error_type, "client_cancelled");
  await fal.queue.cancel(ENDPOINT, { requestId: before.request_id });
});
