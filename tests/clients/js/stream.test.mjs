// fal.stream: progress events, the result as the last event, and aborts.

import assert from "node:assert/strict";
import { ENDPOINT, WAYS, assertOutput, client, download, endless, imageSize, small, until } from "./support.mjs";
import { test } from "./wire.mjs";

const LIMIT = { timeout: 60_000 };

for (const way of Object.keys(WAYS)) {
  test(`stream by ${way}`, LIMIT, async () => {
    const stream = await client(way).stream(ENDPOINT, { input: small() });
    const events = [];
    for await (const event of stream) events.push(event);
    const lines = events.flatMap((event) => event.logs ?? []).map((log) => log.message);
    assert.deepEqual(
      lines.filter((line) => line.startsWith("step ")).map((line) => line.split(" ")[1]),
      ["1/4", "2/4", "3/4", "4/4"],
    );
    const result = await stream.done();
    assert.deepEqual(result, events.at(-1));
    assertOutput(result, small());
    await download(result.images[0]);
  });
}

test("a stream sends previews and ends with the result", LIMIT, async () => {
  const input = small({ image_size: "landscape_4_3", num_inference_steps: 40, num_images: 3, enable_safety_checker: false });
  const stream = await client().stream(ENDPOINT, { input });
  const previews = [];
  for await (const event of stream) {
    if (event.preview) previews.push(event.preview);
  }
  // A busy machine may have time for only the first.
  assert.ok(previews.length >= 1 && previews.length <= 8, `${previews.length} previews`);
  for (const preview of previews) {
    const [head, base64] = preview.split(",");
    assert.equal(head, "data:image/jpeg;base64");
    const bytes = Buffer.from(base64, "base64");
    assert.deepEqual(imageSize(bytes), { type: "image/jpeg", width: 256, height: 192 });
    assert.ok(bytes.length < 32_768, `a preview of ${bytes.length} bytes`);
  }
  const result = await stream.done();
  assertOutput(result, { ...input, count: 3 });
  assert.equal(result.preview, undefined);
  await download(result.images[0]);
});

test("an invalid input is an ordinary error", LIMIT, async () => {
  const stream = await client().stream(ENDPOINT, { input: small({ num_images: 9 }) });
  await assert.rejects(stream.done(), (error) => error.status === 422);
});

test("an abort cancels the request", LIMIT, async () => {
  const fal = client();
  const stream = await fal.stream(ENDPOINT, { input: endless() });
  const requestId = await new Promise((resolve) => {
    stream.on("data", (event) => event.status === "IN_PROGRESS" && resolve(event.request_id));
  });
  stream.abort();
  const ended = await until(fal, requestId, ({ status }) => status === "COMPLETED");
  assert.match(ended.error_type, /^client_/);
});

test("a stream whose request is cancelled rejects", LIMIT, async () => {
  const fal = client();
  const stream = await fal.stream(ENDPOINT, { input: endless() });
  const events = [];
  stream.on("data", (event) => {
    if (events.push(event) === 1) fal.queue.cancel(ENDPOINT, { requestId: event.request_id });
  });
  await assert.rejects(stream.done());
  assert.equal(events.at(-1).error_type, "client_cancelled");
});
