// The output of fal.run: image formats and sizes, data URIs, several images, seeds.

import assert from "node:assert/strict";
import { ENDPOINT, assertOutput, client, download, imageSize, small } from "./support.mjs";
import { test } from "./wire.mjs";

const LIMIT = { timeout: 120_000 };

async function run(overrides) {
  const input = small(overrides);
  const { data, requestId } = await client().run(ENDPOINT, { input });
  assert.match(requestId, /^[0-9a-f-]{36}$/);
  assertOutput(data, { prompt: input.prompt, count: input.num_images });
  return data;
}

test("run answers with the output itself", LIMIT, async () => {
  const data = await run();
  assert.equal(data.seed, 7);
  assert.deepEqual(await sizes(data), [[128, 96]]);
});

test("a random seed is chosen when none is given", LIMIT, async () => {
  const [one, two] = [await run({ seed: undefined }), await run({ seed: null })];
  assert.notEqual(one.seed, two.seed);
});

test("the same seed gives the same bytes, another seed others", LIMIT, async () => {
  const bytesOf = async (seed) => download((await run({ seed, output_format: "png" })).images[0]);
  const [first, again, other] = [await bytesOf(11), await bytesOf(11), await bytesOf(12)];
  assert.ok(first.equals(again), "seed 11 twice");
  assert.ok(!first.equals(other), "seeds 11 and 12");
});

test("png, jpeg and several images", LIMIT, async () => {
  const png = await run({ output_format: "png", num_images: 2 });
  assert.deepEqual(png.images.map((image) => image.content_type), ["image/png", "image/png"]);
  const [first, second] = await Promise.all(png.images.map(download));
  assert.ok(!first.equals(second), "two images of one request differ");
  assert.equal((await run({ output_format: "jpeg" })).images[0].content_type, "image/jpeg");
});

test("sync_mode answers with data URIs", LIMIT, async () => {
  const data = await run({ sync_mode: true });
  const { url, width, height, content_type: type } = data.images[0];
  const [head, base64] = url.split(",", 2);
  assert.equal(head, "data:image/jpeg;base64");
  assert.deepEqual(imageSize(Buffer.from(base64, "base64")), { type, width, height });
});

test("image_size as a preset and as an object", LIMIT, async () => {
  const fast = { num_inference_steps: 1 };
  assert.deepEqual(await sizes(await run({ image_size: "square", ...fast })), [[512, 512]]);
  assert.deepEqual(await sizes(await run({ image_size: "portrait_16_9", ...fast })), [[576, 1024]]);
  assert.deepEqual(await sizes(await run({ image_size: { width: 160, height: 96 }, ...fast })), [[160, 96]]);
});

/** Width and height of every image, checked against the files. */
async function sizes(data) {
  await Promise.all(data.images.map(download));
  return data.images.map((image) => [image.width, image.height]);
}
