// The HTTP requests that @fal-ai/client makes for each of its calls, and that each call returns what it documents.

import assert from "node:assert/strict";
import { ApiError } from "@fal-ai/client";
import { ENDPOINT, WAYS, assertOutput, client, endless, sent, small } from "./support.mjs";
import { test, wire } from "./wire.mjs";

const LIMIT = { timeout: 60_000 };
const COMMON = {
  authorization: `Key ${process.env.FAL_KEY}`,
  accept: "application/json",
  "content-type": "application/json",
  "user-agent": "@fal-ai/client/1.10.1",
};
const LIFE = '{"expiration_duration_seconds":3600}';

test("run with every option", LIMIT, async () => {
  const fal = client("requestMiddleware");
  const options = { input: small(), startTimeout: 30, storageSettings: { expiresIn: "1h" } };
  const { data, requestId } = await fal.run(ENDPOINT, options);
  assertOutput(data, small());
  const call = await wire.call("POST");
  assert.equal(call.url, `/${ENDPOINT}`);
  assert.deepEqual(call.body, small());
  sent(call, { ...COMMON, "x-fal-request-timeout": "30", "x-fal-object-lifecycle-preference": LIFE });
  assert.equal(requestId, call.answer_headers["x-fal-request-id"]);
});

test("submit with every option", LIMIT, async () => {
  const fal = client("requestMiddleware");
  await fal.subscribe(ENDPOINT, {
    input: small(),
    priority: "low",
    hint: "h1",
    startTimeout: 20,
    storageSettings: { expiresIn: "1h" },
    headers: { "X-Fal-Store-IO": "0", "X-Fal-No-Retry": "1" },
  });
  const call = await wire.call("POST");
  assert.equal(call.url, `/queue/${ENDPOINT}`);
  assert.deepEqual(call.body, small());
  sent(call, {
    ...COMMON,
    "x-fal-queue-priority": "low",
    "x-fal-runner-hint": "h1",
    "x-fal-request-timeout": "20",
    "x-fal-object-lifecycle-preference": LIFE,
  });
  for (const header of [["x-fal-store-io", "0"], ["x-fal-no-retry", "1"]]) {
    assert.ok(call.raw_headers.some((raw) => raw.join() === header.join()), `${header}`);
  }
});

for (const way of Object.keys(WAYS)) {
  test(`the calls of subscribe by ${way}`, LIMIT, async () => {
    const path = `/queue/${ENDPOINT}/requests/`;
    for (const [mode, ask] of [["polling", "/status?logs=1"], ["streaming", "/status/stream?logs=1"]]) {
      const { requestId } = await client(way).subscribe(`${ENDPOINT}/turbo`, {
        input: small(),
        logs: true,
        mode,
        pollInterval: 20,
      });
      const calls = (await wire.calls()).filter(({ url }) => url.includes(requestId));
      const last = calls.pop();
      assert.deepEqual([last.method, last.url], ["GET", path + requestId]);
      assert.ok(mode === "polling" ? calls.length > 0 : calls.length === 1, `${calls.length} calls in ${mode}`);
      for (const { method, url } of calls) assert.deepEqual([method, url], ["GET", path + requestId + ask]);
    }
    const submits = await wire.calls("POST");
    assert.deepEqual(submits.map(({ url }) => url), Array(2).fill(`/queue/${ENDPOINT}/turbo`));
    for (const submit of submits) sent(submit, { "x-fal-queue-priority": "normal" });
  });
}

test("streamStatus sends every log line once and ends after COMPLETED", LIMIT, async () => {
  const fal = client("requestMiddleware");
  const { request_id: requestId } = await fal.queue.submit(ENDPOINT, { input: small() });
  const stream = await fal.queue.streamStatus(ENDPOINT, { requestId, logs: true });
  const events = [];
  for await (const event of stream) events.push(event);
  assert.equal(events.at(-1).status, "COMPLETED");
  const lines = events.flatMap(({ logs }) => logs).map(({ message }) => message);
  assert.equal(new Set(lines).size, lines.length, `${lines}`);
  const call = await wire.call("GET", "/status/stream\\?logs=1$");
  assert.match(call.headers.accept, /text\/event-stream/);
  assert.match(call.answer_headers["content-type"], /^text\/event-stream/);
});

test("status without logs and cancel", LIMIT, async () => {
  const fal = client("requestMiddleware");
  const { request_id: requestId } = await fal.queue.submit(ENDPOINT, { input: endless() });
  await fal.queue.status(ENDPOINT, { requestId });
  await wire.call("GET", `^/queue/${ENDPOINT}/requests/${requestId}/status\\?logs=0$`);
  await fal.queue.cancel(ENDPOINT, { requestId });
  const call = await wire.call("PUT");
  assert.equal(call.url, `/queue/${ENDPOINT}/requests/${requestId}/cancel`);
  sent(call, { "content-length": "0" });
});

test("stream adds its path once", LIMIT, async () => {
  for (const id of [ENDPOINT, `${ENDPOINT}/stream`]) {
    const stream = await client("requestMiddleware").stream(id, { input: small() });
    assertOutput(await stream.done(), small());
  }
  const calls = await wire.calls("POST");
  assert.deepEqual(calls.map(({ url }) => url), Array(2).fill(`/${ENDPOINT}/stream`));
  assert.match(calls[0].headers.accept, /text\/event-stream/);
});

test("an endpoint id that is a URL is sent with a slash at its end", LIMIT, async () => {
  for (const way of Object.keys(WAYS)) {
    const fal = client(way);
    const { data } = await fal.run(`https://fal.run/${ENDPOINT}`, { input: small() });
    assertOutput(data, small());
    const { request_id: requestId } = await fal.queue.submit(`https://queue.fal.run/${ENDPOINT}`, { input: small() });
    await fal.queue.cancel(ENDPOINT, { requestId }).catch(() => {});
  }
  const urls = (await wire.calls("POST")).map(({ url }) => url);
  assert.deepEqual(urls, Array(3).fill([`/${ENDPOINT}/`, `/queue/${ENDPOINT}/`]).flat());
});

test("a request is found by its id under any application name in the path", LIMIT, async () => {
  const fal = client("requestMiddleware");
  const { request_id: requestId } = await fal.queue.submit(ENDPOINT, { input: small() });
  const names = { "123-name": "123/name", "workflows/o/a/x": "workflows/o/a", "comfy/o/a": "comfy/o/a" };
  for (const [name, path] of Object.entries(names)) {
    const status = await fal.queue.status(name, { requestId });
    assert.equal(status.request_id, requestId);
    await wire.call("GET", `^/queue/${path}/requests/${requestId}/status`);
  }
});

test("an application that is not served is a 404 that names it", LIMIT, async () => {
  const fal = client("requestMiddleware");
  for (const [id, path] of [["123-name", "/123/name"], ["workflows/o/a", "/workflows/o/a"]]) {
    for (const [call, at] of [[fal.run, path], [fal.queue.submit, `/queue${path}`]]) {
      await assert.rejects(call(id, { input: small() }), (error) => {
        assert.ok(error instanceof ApiError);
        assert.equal(error.status, 404);
        assert.match(error.body.detail, /not found/);
        return true;
      });
      await wire.call("POST", `^${at}$`);
    }
  }
});
