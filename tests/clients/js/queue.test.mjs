// fal.queue: submit, status, result and cancel, one by one.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { ApiError } from "@fal-ai/client";
import { ENDPOINT, assertOutput, client, download, endless, recordingClient, small, until } from "./support.mjs";
import { test, wire } from "./wire.mjs";

const LIMIT = { timeout: 120_000 };

test("submit, status with logs, result", LIMIT, async () => {
  const { fal, seen } = recordingClient();
  const submitted = await fal.queue.submit(ENDPOINT, { input: small() });
  assert.equal(seen.status, 200);
  assert.equal(submitted.status, "IN_QUEUE");
  assert.equal(submitted.queue_position, 0);
  const requestId = submitted.request_id;
  for (const [field, end] of [["response_url", ""], ["status_url", "/status"], ["cancel_url", "/cancel"]]) {
    const url = new URL(submitted[field]);
    assert.ok(url.pathname.endsWith(`/${ENDPOINT}/requests/${requestId}${end}`), `${field} ${url}`);
  }

  const completed = await until(fal, requestId, (status) => {
    assert.ok(["IN_QUEUE", "IN_PROGRESS", "COMPLETED"].includes(status.status), status.status);
    assert.equal(seen.status, status.status === "COMPLETED" ? 200 : 202);
    assert.equal(status.request_id, requestId);
    assert.ok(Array.isArray(status.logs), "logs is always a list");
    assert.equal(typeof status.metrics, "object");
    return status.status === "COMPLETED";
  });
  assert.equal(typeof completed.metrics.inference_time, "number");
  assert.equal(completed.error, undefined);
  const messages = completed.logs.map((log) => log.message);
  for (const step of ["1/4", "2/4", "3/4", "4/4"]) {
    assert.equal(messages.filter((m) => m.includes(`step ${step}`)).length, 1, `step ${step} in ${messages}`);
  }
  for (const log of completed.logs) {
    assert.ok(!Number.isNaN(Date.parse(log.timestamp)), log.timestamp);
    assert.equal(typeof log.level, "string");
    assert.equal(typeof log.source, "string");
    assert.deepEqual(log.labels, { level: log.level, source: log.source });
  }

  const result = await fal.queue.result(ENDPOINT, { requestId });
  assert.equal(result.requestId, requestId);
  assert.equal(result.data.seed, 7);
  assertOutput(result.data, small());
  await download(result.data.images[0]);
});

test("without logs=1 the list is present and empty", LIMIT, async () => {
  const fal = client();
  const { request_id: requestId } = await fal.queue.submit(ENDPOINT, { input: small() });
  await until(fal, requestId, (status) => status.status === "COMPLETED");
  const status = await fal.queue.status(ENDPOINT, { requestId });
  assert.deepEqual(status.logs, []);
});

test("a submit to a sub-path is found by its id under the short path", LIMIT, async () => {
  const fal = client();
  const endpoint = `${ENDPOINT}/turbo`;
  const { request_id: requestId } = await fal.queue.submit(endpoint, { input: small() });
  await until(fal, requestId, (status) => status.status === "COMPLETED");
  const { data } = await fal.queue.result(endpoint, { requestId });
  assert.equal(data.images.length, 1);
});

test("cancel: a queued request, a running one, a finished one, an unknown one", LIMIT, async () => {
  const { fal, seen } = recordingClient();
  const running = (await fal.queue.submit(ENDPOINT, { input: endless() })).request_id;
  await until(fal, running, (status) => status.status === "IN_PROGRESS");
  const queued = (await fal.queue.submit(ENDPOINT, { input: small() })).request_id;
  const waiting = await fal.queue.status(ENDPOINT, { requestId: queued });
  assert.equal(waiting.status, "IN_QUEUE");
  assert.equal(waiting.queue_position, 0);

  await fal.queue.cancel(ENDPOINT, { requestId: queued });
  assert.deepEqual([seen.status, seen.body], [200, { status: "OK", success: true }]);
  await assertCancelled(fal, queued);

  await fal.queue.cancel(ENDPOINT, { requestId: running });
  assert.deepEqual([seen.status, seen.body], [202, { status: "CANCELLATION_REQUESTED", success: true }]);
  await assertCancelled(fal, running);

  await assert.rejects(fal.queue.cancel(ENDPOINT, { requestId: running }), (error) => {
    assert.ok(error instanceof ApiError);
    assert.equal(error.status, 400);
    assert.deepEqual(error.body, { status: "ALREADY_COMPLETED" });
    return true;
  });

  const unknown = "00000000-0000-4000-8000-000000000000";
  await assert.rejects(fal.queue.cancel(ENDPOINT, { requestId: unknown }), (error) => {
    assert.equal(error.status, 404);
    assert.deepEqual(error.body, { status: "NOT_FOUND" });
    return true;
  });
});

test("a subscribe that times out cancels its request", LIMIT, async () => {
  const fal = client();
  let requestId;
  const subscribed = fal.subscribe(ENDPOINT, {
    input: endless(),
    timeout: 1_500,
    onEnqueue: (id) => (requestId = id),
  });
  await assert.rejects(subscribed, /timed out/);
  await assertCancelled(fal, requestId);
});

/** Runs programs/streaming-timeout.mjs: its request id, its output lines, and its stderr. */
async function timesOut(way) {
  const { stdout, stderr } = await new Promise((resolve) => {
    const done = (_, stdout, stderr) => resolve({ stdout, stderr });
    execFile(process.execPath, ["programs/streaming-timeout.mjs", way], done);
  });
  const [first, ...lines] = stdout.trim().split("\n");
  return { requestId: first.replace("enqueued ", ""), lines, stderr };
}

// The client throws in a timer, outside of every promise.
const TIMED_OUT = "Client timed out waiting for the request to complete after 1500ms";

test("a streaming subscribe that times out cancels if its program handles uncaughtException", LIMIT, async () => {
  const { requestId, lines } = await timesOut("catches");
  // The client then asks for the result of the request that is being cancelled.
  assert.equal(lines[0], `uncaught ${TIMED_OUT}`);
  assert.match(lines[1], /^rejected /);
  const { url, status } = await wire.call("PUT", "/cancel$");
  assert.deepEqual([url.includes(requestId), status], [true, 202]);
  await assertCancelled(client(), requestId);
});

test("a streaming subscribe that times out ends any other program before its cancel is sent", LIMIT, async () => {
  const fal = client();
  const { requestId, lines, stderr } = await timesOut("ends");
  assert.deepEqual(lines, []);
  assert.ok(stderr.includes(TIMED_OUT), stderr);
  assert.deepEqual(await wire.calls("PUT"), []);
  await fal.queue.cancel(ENDPOINT, { requestId });
  await assertCancelled(fal, requestId);
});

async function assertCancelled(fal, requestId) {
  const status = await until(fal, requestId, (status) => status.status === "COMPLETED");
  assert.equal(typeof status.error, "string");
  assert.equal(status.error_type, "client_cancelled");
  await assert.rejects(fal.queue.result(ENDPOINT, { requestId }), (error) => {
    assert.ok(error instanceof ApiError);
    assert.equal(error.status, 499);
    assert.equal(error.message, "Client Closed Request");
    assert.equal(error.body.error_type, "client_cancelled");
    assert.equal(error.requestId, requestId);
    return true;
  });
}
