// Input that the model rejects reaches the program as the client's ValidationError.

import assert from "node:assert/strict";
import { ApiError, ValidationError } from "@fal-ai/client";
import { ENDPOINT, client, small, until } from "./support.mjs";
import { test } from "./wire.mjs";

const LIMIT = { timeout: 60_000 };

/** Each input, the field that its error must name, and fal's error type. */
const REFUSED = [
  [{ num_inference_steps: 4 }, "prompt", "missing"],
  [small({ num_inference_steps: 51 }), "num_inference_steps", "less_than_equal"],
  [small({ num_inference_steps: 0 }), "num_inference_steps", "greater_than_equal"],
  [small({ guidance_scale: 20.5 }), "guidance_scale", "less_than_equal"],
  [small({ num_images: 5 }), "num_images", "less_than_equal"],
  [small({ num_images: "many" }), "num_images", "int_parsing"],
  [small({ image_size: "portrait_3_4" }), "image_size", undefined],
  [small({ output_format: "webp" }), "output_format", undefined],
];

for (const [input, field, type] of REFUSED) {
  test(`subscribe with ${field} = ${JSON.stringify(input[field])}`, LIMIT, async () => {
    await assert.rejects(client().subscribe(ENDPOINT, { input, pollInterval: 50 }), (error) => {
      assert.ok(error instanceof ValidationError, `${error}`);
      assert.equal(error.status, 422);
      const found = error.fieldErrors.find(({ loc }) => loc.includes(field));
      assert.ok(found, `${field} in ${JSON.stringify(error.body)}`);
      assert.equal(found.loc[0], "body");
      assert.equal(typeof found.msg, "string");
      if (type) assert.equal(found.type, type);
      return true;
    });
  });
}

test("run rejects an invalid input at once", LIMIT, async () => {
  await assert.rejects(client().run(ENDPOINT, { input: {} }), (error) => {
    assert.ok(error instanceof ValidationError);
    assert.deepEqual(error.getFieldErrors("prompt").map(({ type }) => type), ["missing"]);
    return true;
  });
});

test("a queued request's validation error is its result, as on fal", LIMIT, async () => {
  const fal = client();
  const { request_id: requestId } = await fal.queue.submit(ENDPOINT, { input: {} });
  const status = await until(fal, requestId, ({ status }) => status === "COMPLETED");
  assert.equal(typeof status.error, "string");
  await assert.rejects(fal.queue.result(ENDPOINT, { requestId }), (error) => {
    assert.ok(error instanceof ValidationError);
    assert.equal(error.requestId, requestId);
    return true;
  });
});

test("an unknown endpoint and an unknown request are 404", LIMIT, async () => {
  const notFound = (error) => error instanceof ApiError && error.status === 404;
  await assert.rejects(client().run("fal-ai/no-such-model", { input: small() }), notFound);
  const requestId = "00000000-0000-4000-8000-000000000000";
  await assert.rejects(client().queue.status(ENDPOINT, { requestId }), notFound);
  await assert.rejects(client().queue.result(ENDPOINT, { requestId }), notFound);
});
