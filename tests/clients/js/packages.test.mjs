// Other npm packages for fal: an old @fal-ai/client, its deprecated predecessor, fal's own proxy between client and
// server, and the AI SDK.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createFal } from "@ai-sdk/fal";
import { createFalClient } from "@fal-ai/client";
import * as expressProxy from "@fal-ai/server-proxy/express";
import * as honoProxy from "@fal-ai/server-proxy/hono";
import * as remixProxy from "@fal-ai/server-proxy/remix";
import * as serverless from "@fal-ai/serverless-client";
import { generateImage } from "ai";
import express from "express";
import { createFalClient as createClient12 } from "fal-client-1.2";
import { Hono } from "hono";
import { BASE, ENDPOINT, WAYS, assertOutput, download, endless, imageSize, sent, small, until } from "./support.mjs";
import { test, wire } from "./wire.mjs";

const LIMIT = { timeout: 60_000 };

test("@fal-ai/client 1.2 by requestMiddleware", LIMIT, async () => {
  const fal = createClient12(WAYS.requestMiddleware);
  for (const mode of ["polling", "streaming"]) {
    const lines = [];
    const { data, requestId } = await fal.subscribe(ENDPOINT, {
      input: small(),
      logs: true,
      mode,
      onQueueUpdate: (update) => lines.push(...(update.logs ?? []).map((log) => log.message)),
    });
    assert.match(requestId, /^[0-9a-f-]{36}$/);
    assert.ok(lines.some((line) => line.startsWith("step 4/4")), `${mode}: ${lines}`);
    assertOutput(data, small());
    await download(data.images[0]);
  }
  const { data } = await fal.run(ENDPOINT, { input: small() });
  await download(data.images[0]);
  const url = await fal.storage.upload(new Blob(["words"], { type: "text/plain" }));
  assert.equal(await (await fetch(url)).text(), "words");
  await wire.call("POST", "^/storage/upload/initiate\\?storage_type=fal-cdn-v3$");
});

test("@fal-ai/serverless-client by requestMiddleware", LIMIT, async () => {
  serverless.config(WAYS.requestMiddleware);
  const subscribed = await serverless.subscribe(ENDPOINT, { input: small(), logs: true });
  assertOutput(subscribed, small());
  await download(subscribed.images[0]);
  await download((await serverless.run(ENDPOINT, { input: small() })).images[0]);
  const { request_id } = await serverless.queue.submit(ENDPOINT, { input: small() });
  const { status } = await serverless.queue.status(ENDPOINT, { requestId: request_id, logs: true });
  assert.ok(["IN_QUEUE", "IN_PROGRESS", "COMPLETED"].includes(status), status);
  for (const call of await wire.calls("POST", "^/queue/")) {
    sent(call, { "x-fal-queue-priority": undefined, "user-agent": "@fal-ai/serverless-client/0.15.0" });
  }
});

const PROXY_OPTIONS = {
  allowedUrlPatterns: [`${new URL(BASE).host}/**`],
  allowedEndpoints: ["**"],
  isAuthenticated: async () => true,
  resolveFalAuth: async () => "Key of:application",
};

/** A client as in a browser: it calls an application's proxy, with fal's hosts rewritten to this server. */
function behind(proxyUrl, fetch = globalThis.fetch) {
  return createFalClient({ ...WAYS.requestMiddleware, proxyUrl: { url: proxyUrl, when: "always" }, fetch });
}

test("@fal-ai/server-proxy in an express application", LIMIT, async (t) => {
  const application = express();
  application.all("/api/fal/proxy", express.json(), expressProxy.createHandler(PROXY_OPTIONS));
  const server = application.listen(0, "127.0.0.1");
  t.after(() => server.close());
  await once(server, "listening");
  const fal = behind(`http://127.0.0.1:${server.address().port}/api/fal/proxy`);
  await subscribesBehind(fal, "express");

  const { request_id: requestId } = await fal.queue.submit(ENDPOINT, { input: endless() });
  await fal.queue.cancel(ENDPOINT, { requestId });
  const ended = await until(fal, requestId, ({ status }) => status === "COMPLETED");
  assert.equal(ended.error_type, "client_cancelled");
  assert.notEqual((await wire.call("PUT")).sent_bytes, 0, "this proxy sends a body with a cancel");
});

test("@fal-ai/server-proxy in hono and remix applications", LIMIT, async () => {
  const application = new Hono();
  application.all("/api/fal/proxy", honoProxy.createRouteHandler(PROXY_OPTIONS));
  const json = (value, init) => Response.json(value, init);
  const remix = remixProxy.createProxy({ json, ...PROXY_OPTIONS });
  const applications = {
    hono: (request) => application.fetch(request),
    remix: (request) => remix.action({ request }),
  };
  for (const [id, serve] of Object.entries(applications)) {
    const fal = behind("http://application/api/fal/proxy", (url, init) => serve(new Request(url, init)));
    await subscribesBehind(fal, id);
    await assert.rejects(fal.run(ENDPOINT, { input: {} }), ({ status, fieldErrors }) => {
      assert.deepEqual([status, fieldErrors[0].type], [422, "missing"]);
      return true;
    });
  }
});

async function subscribesBehind(fal, id) {
  const { data, requestId } = await fal.subscribe(ENDPOINT, { input: small(), logs: true, pollInterval: 50 });
  assert.match(requestId, /^[0-9a-f-]{36}$/);
  assertOutput(data, small());
  await download(data.images[0]);
  const stream = await fal.stream(ENDPOINT, { input: small() });
  assertOutput(await stream.done(), small());
  const calls = (await wire.calls()).filter(({ headers }) => headers["x-fal-client-proxy"]?.endsWith(`/${id}`));
  assert.ok(calls.length >= 4, `${calls.length} calls by ${id}`);
  for (const call of calls) sent(call, { authorization: "Key of:application", accept: "application/json" });
}

test("@ai-sdk/fal by baseURL", LIMIT, async () => {
  const fal = createFal({ apiKey: process.env.FAL_KEY ?? "local:test", baseURL: BASE });
  const { image } = await generateImage({
    model: fal.image(ENDPOINT),
    prompt: "a red house",
    size: "128x96",
    seed: 7,
    providerOptions: { fal: { numInferenceSteps: 4 } },
  });
  assert.deepEqual(imageSize(Buffer.from(image.uint8Array)), { type: "image/jpeg", width: 128, height: 96 });
  const { body } = await wire.call("POST", `^/${ENDPOINT}$`);
  const size = { width: 128, height: 96 };
  assert.deepEqual(body, { prompt: "a red house", seed: 7, image_size: size, num_images: 1, num_inference_steps: 4 });
  await wire.call("GET", "^/files/");
});
