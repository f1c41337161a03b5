// The other packages of npm that speak to fal: an old @fal-ai/client, its deprecated predecessor,
// fal's own proxy in front of the server, and the AI SDK.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { createFal } from "@ai-sdk/fal";
import { createFalClient } from "@fal-ai/client";
import * as proxy from "@fal-ai/server-proxy/express";
import * as serverless from "@fal-ai/serverless-client";
import { generateImage } from "ai";
import express from "express";
import { createFalClient as createClient12 } from "fal-client-1.2";
import { BASE, ENDPOINT, WAYS, assertOutput, download, pictureSize, small } from "./support.mjs";

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
});

test("@fal-ai/server-proxy in front, as a web application has it", LIMIT, async (t) => {
  const application = express();
  const options = {
    allowedUrlPatterns: [`${new URL(BASE).host}/**`],
    resolveFalAuth: async () => `Key ${process.env.FAL_KEY ?? "local:test"}`,
  };
  application.all("/api/fal/proxy", express.json(), proxy.createHandler(options));
  const server = application.listen(0, "127.0.0.1");
  t.after(() => server.close());
  await once(server, "listening");
  // The browser's client names fal's hosts; the application rewrites them to the server it runs.
  const fal = createFalClient({
    ...WAYS.requestMiddleware,
    proxyUrl: { url: `http://127.0.0.1:${server.address().port}/api/fal/proxy`, when: "always" },
  });
  const { data, requestId } = await fal.subscribe(ENDPOINT, { input: small(), logs: true });
  assert.match(requestId, /^[0-9a-f-]{36}$/);
  assertOutput(data, small());
  await download(data.images[0]);
});

test("@ai-sdk/fal by baseURL", LIMIT, async () => {
  const fal = createFal({ apiKey: process.env.FAL_KEY ?? "local:test", baseURL: BASE });
  const { image } = await generateImage({
    model: fal.image(ENDPOINT),
    prompt: "a red house",
    size: "128x96",
    seed: 7,
    providerOptions: { fal: { numInferenceSteps: 4 } },
  });
  assert.deepEqual(pictureSize(Buffer.from(image.uint8Array)), { type: "image/jpeg", width: 128, height: 96 });
});
