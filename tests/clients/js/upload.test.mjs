// Uploads of @fal-ai/client: what comes back from the URL is what was sent.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import * as serverless from "@fal-ai/serverless-client";
import { BASE, ENDPOINT, WAYS, client, small } from "./support.mjs";

const LIMIT = { timeout: 120_000 };

async function fetched(url) {
  assert.ok(url.startsWith(`${BASE}/files/`), url);
  const response = await fetch(url);
  assert.equal(response.status, 200);
  return { type: response.headers.get("content-type"), bytes: Buffer.from(await response.arrayBuffer()) };
}

for (const way of Object.keys(WAYS)) {
  test(`a small file by ${way}`, LIMIT, async () => {
    const bytes = randomBytes(1000);
    const url = await client(way).storage.upload(new Blob([bytes], { type: "image/png" }));
    assert.deepEqual(await fetched(url), { type: "image/png", bytes });
  });
}

test("a file of 95 MiB, in parts", LIMIT, async () => {
  const part = randomBytes(1 << 20);
  const bytes = Buffer.concat(Array.from({ length: 95 }, (_, index) => Buffer.concat([Buffer.of(index), part])));
  const url = await client().storage.upload(new Blob([bytes], { type: "application/zip" }));
  const back = await fetched(url);
  assert.equal(back.type, "application/zip");
  assert.ok(back.bytes.equals(bytes));
});

test("a Blob inside an input becomes the URL of its bytes", LIMIT, async () => {
  const bytes = randomBytes(500);
  const control = { path: "x", control_image_url: new Blob([bytes], { type: "image/jpeg" }) };
  const refused = await client().run(ENDPOINT, { input: small({ controlnet: control }) }).catch((error) => error);
  assert.equal(refused.status, 422);
  const [problem] = refused.body.detail;
  assert.equal(problem.type, "feature_not_supported");
  assert.deepEqual((await fetched(problem.input.control_image_url)).bytes, bytes);
});

test("the deprecated serverless-client uploads too", LIMIT, async () => {
  serverless.config(WAYS.requestMiddleware);
  const url = await serverless.storage.upload(new Blob(["words"], { type: "text/plain" }));
  assert.equal((await fetched(url)).bytes.toString(), "words");
});
