// Helpers of the js tests: the server's address, the ways to configure a client for it, short inputs, and a reader of
// image files. Talks to the server only through @fal-ai/client and plain GETs of result URLs.

import assert from "node:assert/strict";
import { createFalClient } from "@fal-ai/client";

/** Base URL of the server under test, without a trailing slash. */
export const BASE = process.env.LATENTD_URL ?? "http://127.0.0.1:8080";

/** The endpoint of the page whose snippet must run. */
export const ENDPOINT = "fal-ai/stable-diffusion-v35-large";

const CREDENTIALS = process.env.FAL_KEY ?? "local:test";

/** The ways README.md names to send a program's calls to a server: config for `fal.config`. */
export function waysTo(base, credentials = CREDENTIALS) {
  const local = (url) =>
    String(url)
      .replace("https://queue.fal.run/", `${base}/queue/`)
      .replace(/^https:\/\/(fal\.run|rest\.fal\.ai|rest\.alpha\.fal\.ai)\//, `${base}/`);
  return {
    proxyUrl: { credentials, proxyUrl: { url: `${base}/api/fal/proxy`, when: "always" } },
    requestMiddleware: {
      credentials,
      requestMiddleware: async (request) => ({ ...request, url: local(request.url) }),
    },
    fetch: { credentials, fetch: (url, init) => globalThis.fetch(local(url), init) },
  };
}

export const WAYS = waysTo(BASE);

/** A client that reaches the server by `proxyUrl` unless `way` names another way. */
export function client(way = "proxyUrl") {
  return createFalClient(WAYS[way]);
}

/** Checks headers that a client sent; `undefined` is one that it must not send. */
export function sent(call, headers) {
  for (const [name, value] of Object.entries(headers)) assert.equal(call.headers[name], value, name);
}

/**
 * A client that also records the last HTTP response: the client's own API hides some of it (`queue.cancel` returns
 * nothing).
 */
export function recordingClient() {
  const seen = { status: undefined, headers: undefined, body: undefined };
  const fetch = async (url, init) => {
    const response = await globalThis.fetch(url, init);
    seen.status = response.status;
    seen.headers = response.headers;
    seen.body = await response.clone().json().catch(() => undefined);
    return response;
  };
  return { fal: createFalClient({ ...WAYS.proxyUrl, fetch }), seen };
}

/** An input whose request takes about a second. */
export function small(overrides = {}) {
  return {
    prompt: "a red fox in the snow",
    image_size: { width: 128, height: 96 },
    num_inference_steps: 4,
    seed: 7,
    ...overrides,
  };
}

/** An input that runs long enough for a test to cancel it. */
export function endless(overrides = {}) {
  return small({ image_size: "square_hd", num_inference_steps: 50, num_images: 4, ...overrides });
}

/** Polls until the request's status satisfies `wanted`; returns that status. */
export async function until(fal, requestId, wanted, milliseconds = 60_000) {
  const deadline = Date.now() + milliseconds;
  for (;;) {
    const status = await fal.queue.status(ENDPOINT, { requestId, logs: true });
    if (wanted(status)) return status;
    assert.ok(Date.now() < deadline, `still ${JSON.stringify(status)} after ${milliseconds} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Checks an image entry of an output and returns what its URL serves. */
export async function download(image) {
  assert.match(image.url, /^http:\/\//, "an absolute URL");
  assert.ok(image.url.startsWith(`${BASE}/files/`), `${image.url} is on the server the client uses`);
  const response = await fetch(image.url);
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), image.content_type);
  const bytes = Buffer.from(await response.arrayBuffer());
  assert.deepEqual(imageSize(bytes), {
    type: image.content_type,
    width: image.width,
    height: image.height,
  });
  return bytes;
}

/** Media type and size in pixels, read from the file's bytes. */
export function imageSize(bytes) {
  if (bytes.subarray(0, 8).equals(Buffer.from("\x89PNG\r\n\x1a\n", "latin1"))) {
    assert.equal(bytes.toString("latin1", 12, 16), "IHDR");
    assert.equal(bytes.toString("latin1", bytes.length - 8, bytes.length - 4), "IEND");
    return { type: "image/png", width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20) };
  }
  assert.equal(bytes.readUInt16BE(0), 0xffd8, "SOI: the file is neither a PNG nor a JPEG");
  assert.equal(bytes.readUInt16BE(bytes.length - 2), 0xffd9, "EOI: the JPEG is complete");
  for (let at = 2; at < bytes.length; at += 2 + bytes.readUInt16BE(at + 2)) {
    assert.equal(bytes[at], 0xff, `a JPEG marker at byte ${at}`);
    const marker = bytes[at + 1];
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) {
      return {
        type: "image/jpeg",
        width: bytes.readUInt16BE(at + 7),
        height: bytes.readUInt16BE(at + 5),
      };
    }
  }
  assert.fail("a JPEG without a frame header");
}

/** The compressed pixels of a PNG, of which each chunk is a length, a name, contents and a checksum. Its text may differ. */
export function pixels(png) {
  const found = [];
  for (let at = 8, length; at < png.length; at += 12 + length) {
    length = png.readUInt32BE(at);
    if (png.toString("latin1", at + 4, at + 8) === "IDAT") found.push(png.subarray(at + 8, at + 8 + length));
  }
  return Buffer.concat(found).toString("base64");
}

/** Checks the five fields every output has. */
export function assertOutput(data, { prompt, count = 1 }) {
  assert.equal(data.images.length, count);
  assert.equal(data.prompt, prompt);
  assert.ok(Number.isInteger(data.seed), `seed ${data.seed} is an integer`);
  assert.equal(data.has_nsfw_concepts.length, count);
  for (const flag of data.has_nsfw_concepts) assert.equal(typeof flag, "boolean");
  assert.equal(typeof data.timings, "object");
  for (const [name, seconds] of Object.entries(data.timings)) {
    assert.equal(typeof seconds, "number", `timings.${name}`);
  }
}
