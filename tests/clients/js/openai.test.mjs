// OpenAI's own client: models, images in every form, edits, streams, and an exception for every kind of error.

import assert from "node:assert/strict";
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import OpenAI, { toFile } from "openai";
import { OwnServer } from "./server.mjs";
import { BASE, download } from "./support.mjs";
import { test, wire } from "./wire.mjs";

const LIMIT = { timeout: 120_000 };
const HOUSE = new URL("../../../docs/images/red-house.jpg", import.meta.url);

function client(base = BASE, options = {}) {
  return new OpenAI({ baseURL: `${base}/v1`, apiKey: "local:key", maxRetries: 0, ...options });
}

/** A call that takes about a second. Fields that are not OpenAI's are sent as they are. */
function small(overrides = {}) {
  return { prompt: "a lighthouse", size: "128x96", num_inference_steps: 4, seed: 7, ...overrides };
}

/** The bytes of an image. */
function bytesOf({ b64_json }) {
  return Buffer.from(b64_json, "base64");
}

const isPng = (bytes) => bytes.subarray(1, 4).toString() === "PNG";

test("the models that are served", LIMIT, async () => {
  const ids = [];
  for await (const model of client().models.list()) ids.push(model.id);
  assert.deepEqual(ids, ["mini"]);
  for (const name of ["mini", "stabilityai/stable-diffusion-3.5-large"]) {
    assert.equal((await client().models.retrieve(name)).id, "mini");
  }
  await assert.rejects(client().models.retrieve("gpt-image-2"), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.deepEqual([error.code, error.param], ["model_not_found", "model"]);
    return true;
  });
});

test("an image in base64 and by its URL", LIMIT, async () => {
  const response = await client().images.generate(small({ n: 2 }));
  assert.equal(response.data.length, 2);
  assert.ok(response.data.map(bytesOf).every(isPng));
  assert.deepEqual([response.size, response.output_format, response.seed], ["128x96", "png", 7]);
  assert.ok(response._request_id);
  const byUrl = await client().images.generate(small({ response_format: "url", output_format: "jpeg" }));
  assert.equal(byUrl.data[0].b64_json, undefined);
  await download({ url: byUrl.data[0].url, content_type: "image/jpeg", width: 128, height: 96 });
});

test("an edit of a file, by a stream and from memory", LIMIT, async () => {
  const options = { prompt: "a house at night", size: "128x96", num_inference_steps: 4, strength: 0.5, seed: 1 };
  const first = await client().images.edit({ image: createReadStream(HOUSE), ...options });
  assert.ok(isPng(bytesOf(first.data[0])));
  const image = await toFile(bytesOf(first.data[0]), "house.png", { type: "image/png" });
  const again = await client().images.edit({ image: [image], prompt: "a house", num_inference_steps: 4, seed: 1 });
  assert.equal(again.size, "128x96", "without a size, that of the image");
  const calls = await wire.calls("POST", "/v1/images/edits$");
  assert.ok(calls.every(({ headers }) => headers["content-type"].startsWith("multipart/form-data")));
});

test("streams of a generation and of an edit, and one that fails", LIMIT, async () => {
  const kinds = async (stream) => {
    const found = [];
    for await (const event of await stream) {
      assert.ok(bytesOf(event).length > 100);
      found.push(event.type);
    }
    return found;
  };
  const generated = await kinds(client().images.generate(small({ size: "512x512", stream: true, partial_images: 2 })));
  assert.equal(generated.at(-1), "image_generation.completed");
  const partial = generated.slice(0, -1);
  assert.ok(partial.length <= 2 && partial.every((kind) => kind === "image_generation.partial_image"), generated.join());
  const image = createReadStream(HOUSE);
  const edited = client().images.edit({ image, prompt: "night", size: "128x96", num_inference_steps: 4, seed: 1, stream: true });
  assert.deepEqual(await kinds(edited), ["image_edit.completed"]);
  const unsafe = "a big pirate flag with a skull and crossbones in the middle of a meadow at noon";
  const failing = client().images.generate({ prompt: unsafe, size: "1024x768", num_inference_steps: 20, seed: 11, stream: true });
  await assert.rejects(kinds(failing), { code: "content_policy_violation" });
});

test("inputs that are refused", LIMIT, async () => {
  const refused = async (call, param, code) => {
    await assert.rejects(call, (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError, `${error}`);
      assert.deepEqual([error.param, error.code, error.type], [param, code, "invalid_request_error"]);
      return true;
    });
  };
  const { images } = client();
  await refused(images.generate(small({ n: 5 })), "n", "invalid_value");
  await refused(images.generate(small({ size: "16" })), "size", "invalid_value");
  await refused(images.generate(small({ no_such: 1 })), "no_such", "unknown_parameter");
  await refused(images.generate({ size: "auto" }), "prompt", "missing_required_parameter");
  const mask = await toFile(Buffer.from("x"), "mask.png");
  const image = await toFile(await readFile(HOUSE), "house.jpg");
  await refused(images.edit({ image, mask, prompt: "x", num_inference_steps: 1 }), "mask", "invalid_image");
  const broken = await toFile(Buffer.from("x"), "image.png");
  await refused(images.edit({ image: broken, prompt: "x", num_inference_steps: 1 }), "image", "invalid_image");
});

test("keys, and a server that is full", LIMIT, async () => {
  const server = new OwnServer();
  await server.start("--api-key", "team:secret", "--max-queue", "0");
  try {
    const wrong = client(server.url, { apiKey: "team:wrong" });
    await assert.rejects(wrong.images.generate(small()), OpenAI.AuthenticationError);
    const own = client(server.url, { apiKey: "team:secret", maxRetries: 0 });
    await assert.rejects(own.images.generate(small()), (error) => {
      assert.deepEqual([error.status, error.code, error.headers.get("retry-after")], [503, "queue_full", "5"]);
      return true;
    });
  } finally {
    await server.end();
  }
});

test("a client that stops waiting cancels its request", LIMIT, async () => {
  const stop = new AbortController();
  const call = client().images.generate(small({ size: "1536x1536", n: 4, num_inference_steps: 50 }), { signal: stop.signal });
  setTimeout(() => stop.abort(), 1000);
  await assert.rejects(call, OpenAI.APIUserAbortError);
  assert.equal((await client(BASE, { timeout: 30_000 }).images.generate(small())).data.length, 1);
});
