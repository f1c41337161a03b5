// Image to image with @fal-ai/client: an image that the client uploads, one inside the request, and an earlier result.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { BASE, ENDPOINT, assertOutput, client, download, imageSize, small } from "./support.mjs";
import { test, wire } from "./wire.mjs";

const LIMIT = { timeout: 120_000 };
const MODEL = `${ENDPOINT}/image-to-image`;
const HOUSE = await readFile(new URL("../../../docs/images/red-house.jpg", import.meta.url));

/** A small input with an initial image. */
function from(image_url, overrides = {}) {
  return small({ image_url, strength: 0.6, ...overrides });
}

test("a Blob in a subscribe is uploaded and used as the initial image", LIMIT, async () => {
  const lines = [];
  const { data } = await client().subscribe(MODEL, {
    input: from(new Blob([HOUSE], { type: "image/jpeg" })),
    logs: true,
    onQueueUpdate: ({ logs }) => lines.push(...(logs ?? []).map(({ message }) => message)),
  });
  assertOutput(data, { prompt: small().prompt });
  const generated = await download(data.images[0]);
  assert.equal(imageSize(generated).width, 128);
  const { body } = await wire.call("POST", `/${MODEL}$`);
  assert.ok(body.image_url.startsWith(`${BASE}/files/`), body.image_url);
  // Of 4 steps at strength 0.6, int(4 - 4 * 0.6) are left out.
  assert.ok(lines.some((line) => line.startsWith("step 3/3 ")), lines.join("\n"));

  const again = await client().run(MODEL, { input: from(data.images[0].url, { image_size: undefined }) });
  const { width, height } = again.data.images[0];
  assert.deepEqual([width, height], [128, 96], "an earlier result as the initial image keeps its size");
});

test("an image on another port of this machine is fetched", LIMIT, async () => {
  const elsewhere = createServer((request, response) => {
    if (request.url === "/house.jpg") response.end(HOUSE);
    else response.writeHead(302, { location: "house.jpg" }).end();
  });
  await new Promise((resolve) => elsewhere.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${elsewhere.address().port}/latest`;
  const { data } = await client().run(MODEL, { input: from(url) }).finally(() => elsewhere.close());
  await download(data.images[0]);
});

test("a stream takes a data URI as the initial image", LIMIT, async () => {
  const input = from(`data:image/jpeg;base64,${HOUSE.toString("base64")}`, { image_size: undefined });
  const stream = await client().stream(`${ENDPOINT}/turbo/image-to-image`, { input });
  const events = [];
  for await (const event of stream) events.push(event);
  const data = await stream.done();
  assert.deepEqual([data.images[0].width, data.images[0].height], [1024, 768]);
  await download(data.images[0]);
  assert.ok(events.length > 1);
});

test("an initial image that cannot be read is an error of its field", LIMIT, async () => {
  const blob = new Blob(["not an image"], { type: "image/png" });
  for (const [image_url, kind] of [
    [blob, "image_load_error"],
    [`${BASE}/files/0123456789abcdef0123456789abcdef.png`, "file_download_error"],
    ["http://169.254.169.254/latest/meta-data", "file_download_error"],
    [undefined, "missing"],
  ]) {
    const error = await client().subscribe(MODEL, { input: from(image_url) }).catch((error) => error);
    assert.equal(error.status, 422);
    const [problem] = error.getFieldErrors("image_url");
    assert.equal(problem.type, kind);
  }
});
