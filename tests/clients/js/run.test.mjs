// fal.run in its less usual forms: the input in the query, and no input at all.

import assert from "node:assert/strict";
import { ValidationError } from "@fal-ai/client";
import { ENDPOINT, WAYS, assertOutput, client, download, small } from "./support.mjs";
import { test } from "./wire.mjs";

const LIMIT = { timeout: 120_000 };

for (const way of Object.keys(WAYS)) {
  test(`a GET sends its input in the query (${way})`, LIMIT, async () => {
    const input = { prompt: "a fox & a hen = two", image_size: "square", num_inference_steps: 2, seed: 7 };
    const { data, requestId } = await client(way).run(ENDPOINT, { method: "get", input });
    assertOutput(data, input);
    assert.equal(data.seed, 7);
    assert.match(requestId, /^[0-9a-f-]{36}$/);
    await download(data.images[0]);
  });
}

test("a GET generates the same image as a POST", LIMIT, async () => {
  // The client writes an object into a query as "[object Object]"; a program writes JSON.
  const input = small();
  const text = { ...input, image_size: JSON.stringify(input.image_size) };
  const got = await client().run(ENDPOINT, { method: "get", input: text });
  const posted = await client().run(ENDPOINT, { input });
  assert.deepEqual(await download(got.data.images[0]), await download(posted.data.images[0]));
});

test("an object in a query is an error of its field", LIMIT, async () => {
  await assert.rejects(client().run(ENDPOINT, { method: "get", input: small() }), (error) => {
    assert.ok(error instanceof ValidationError, `${error}`);
    assert.equal(error.getFieldErrors("image_size").length, 1);
    return true;
  });
});

test("a stream accepts a GET too", LIMIT, async () => {
  const input = { prompt: "a fox", image_size: "square", num_inference_steps: 2 };
  const stream = await client().stream(ENDPOINT, { method: "get", input, queryParams: input });
  for await (const _ of stream);
  assertOutput(await stream.done(), input);
});

test("run without an input is a ValidationError that names the prompt", LIMIT, async () => {
  await assert.rejects(client().run(ENDPOINT), (error) => {
    assert.ok(error instanceof ValidationError, `${error}`);
    assert.deepEqual(error.getFieldErrors("prompt").map(({ type }) => type), ["missing"]);
    return true;
  });
});
