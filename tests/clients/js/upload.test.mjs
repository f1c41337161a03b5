// Uploads of @fal-ai/client: the URL serves the bytes that were sent.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import * as serverless from "@fal-ai/serverless-client";
import { BASE, ENDPOINT, WAYS, assertOutput, client, sent, small } from "./support.mjs";
import { test, wire } from "./wire.mjs";

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
    const lifecycle = { expiresIn: "1h" };
    const url = await client(way).storage.upload(new Blob([bytes], { type: "image/png" }), { lifecycle });
    assert.deepEqual(await fetched(url), { type: "image/png", bytes });

    const asked = await wire.call("POST", "^/storage/upload/initiate\\?storage_type=fal-cdn-v3$");
    assert.equal(asked.body.content_type, "image/png");
    assert.match(asked.body.file_name, /^\d+\.png$/);
    sent(asked, { "x-fal-object-lifecycle": '{"expiration_duration_seconds":3600}' });
    sent(await wire.call("PUT"), { "content-type": "image/png", authorization: undefined, "content-length": "1000" });
  });
}

test("a file of 95 MiB, in parts", LIMIT, async () => {
  const part = randomBytes(1 << 20);
  const bytes = Buffer.concat(Array.from({ length: 95 }, (_, index) => Buffer.concat([Buffer.of(index), part])));
  const url = await client().storage.upload(new Blob([bytes], { type: "application/zip" }));
  const back = await fetched(url);
  assert.equal(back.type, "application/zip");
  assert.ok(back.bytes.equals(bytes));

  await wire.call("POST", "^/storage/upload/initiate-multipart\\?storage_type=fal-cdn-v3$");
  const parts = await wire.calls("PUT");
  assert.deepEqual(parts.map(({ url }) => url.split("/").at(-1)), Array.from({ length: 10 }, (_, at) => `${at + 1}`));
  for (const part of parts.slice(0, -1)) assert.equal(part.sent_bytes, 10 << 20);
  const { body } = await wire.call("POST", "/complete$");
  const answered = parts.map(({ answer }) => JSON.parse(answer));
  assert.deepEqual(body, { parts: answered.map(({ partNumber, etag }) => ({ partNumber, etag })) });
});

test("parts whose transfer fails are sent again", LIMIT, async () => {
  const bytes = Buffer.alloc(91 << 20, "latentd ");
  await wire.breakCalls({ method: "PUT", path: "/2$", drop: "answer" });
  await wire.breakCalls({ method: "PUT", path: "/3$", drop: "call", times: 2 });
  const url = await client().storage.upload(new Blob([bytes], { type: "application/zip" }));
  assert.ok((await fetched(url)).bytes.equals(bytes));
  assert.equal((await wire.calls("PUT")).length, 10 + 3);
});

test("a Blob in an invalid input is uploaded, and the error has its URL", LIMIT, async () => {
  const bytes = randomBytes(500);
  const adapter = { image_url: new Blob([bytes], { type: "image/jpeg" }) };
  const refused = await client().run(ENDPOINT, { input: small({ ip_adapter: adapter }) }).catch((error) => error);
  assert.equal(refused.status, 422);
  const [problem] = refused.body.detail;
  assert.deepEqual([problem.type, problem.loc], ["missing", ["body", "ip_adapter", "path"]]);
  assert.deepEqual((await fetched(problem.input.image_url)).bytes, bytes);
});

test("a Blob in a field that text to image ignores is uploaded, and the image is generated", LIMIT, async () => {
  const blob = (text) => new Blob([text], { type: "image/png" });
  const input = small({ image_url: blob("unread"), prompt: blob("a prompt?") });
  const { data } = await client().run(ENDPOINT, { input });
  const { body } = await wire.call("POST", `/${ENDPOINT}$`);
  assert.equal((await fetched(body.image_url)).bytes.toString(), "unread");
  // The client puts the URL in the Blob's place, here as the prompt.
  assert.equal((await fetched(body.prompt)).bytes.toString(), "a prompt?");
  assertOutput(data, { prompt: body.prompt });
});

test("the deprecated serverless-client uploads too", LIMIT, async () => {
  serverless.config(WAYS.requestMiddleware);
  const url = await serverless.storage.upload(new Blob(["words"], { type: "text/plain" }));
  assert.equal((await fetched(url)).bytes.toString(), "words");
  const asked = await wire.call("POST");
  assert.equal(asked.url, "/storage/upload/initiate", "without a storage_type");
  sent(asked, { "user-agent": "@fal-ai/serverless-client/0.15.0" });
});
