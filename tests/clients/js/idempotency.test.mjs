// Idempotency-Key: a program that repeats a request with the same key gets the first request.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { ValidationError, createFalClient } from "@fal-ai/client";
import { ENDPOINT, WAYS, assertOutput, client, small } from "./support.mjs";
import { test } from "./wire.mjs";

const LIMIT = { timeout: 120_000 };

test("submits with one key are one request", LIMIT, async () => {
  const headers = { "Idempotency-Key": randomUUID() };
  const submit = () => client().queue.submit(ENDPOINT, { input: small(), headers });
  const ids = await Promise.all(Array.from({ length: 8 }, async () => (await submit()).request_id));
  assert.equal(new Set(ids).size, 1);
  const { data, requestId } = await client().subscribe(ENDPOINT, { input: small(), headers });
  assert.equal(requestId, ids[0]);
  assertOutput(data, small());
});

test("another input under the same key is a ValidationError of the header", LIMIT, async () => {
  const headers = { "Idempotency-Key": randomUUID() };
  await client().queue.submit(ENDPOINT, { input: small(), headers });
  await assert.rejects(client().queue.submit(ENDPOINT, { input: small({ seed: 8 }), headers }), (error) => {
    assert.ok(error instanceof ValidationError, `${error}`);
    assert.deepEqual(error.fieldErrors[0].loc, ["header", "idempotency-key"]);
    return true;
  });
});

test("a run whose response is lost is not generated again when the client repeats it", LIMIT, async () => {
  // The first response is lost on the way: the client repeats the same POST by itself.
  const key = randomUUID();
  const ids = [];
  const fetch = async (url, init) => {
    const response = await globalThis.fetch(url, { ...init, headers: { ...init.headers, "Idempotency-Key": key } });
    ids.push(response.headers.get("x-fal-request-id"));
    if (ids.length === 1) throw Object.assign(new TypeError("fetch failed"), { cause: { code: "ECONNRESET" } });
    return response;
  };
  const { data } = await createFalClient({ ...WAYS.proxyUrl, fetch }).run(ENDPOINT, { input: small() });
  assertOutput(data, small());
  assert.equal(ids.length, 2);
  assert.equal(ids[0], ids[1]);
});
