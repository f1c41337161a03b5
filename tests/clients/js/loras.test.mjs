// `loras` with @fal-ai/client: an uploaded adapter and one that the operator named change the image, a bad one is a 422.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { ENDPOINT, client, small } from "./support.mjs";
import { test } from "./wire.mjs";

const LIMIT = { timeout: 120_000 };
const LORA = await readFile(new URL("../../../models/mini-lora/black-and-white.safetensors", import.meta.url));

/** The first image of a request with these adapters, as a data URI. */
async function image(loras) {
  const input = small({ num_inference_steps: 6, sync_mode: true, output_format: "png", loras });
  const { data } = await client().subscribe(ENDPOINT, { input });
  return data.images[0].url;
}

test("an uploaded and a named adapter change the image by their scale", LIMIT, async () => {
  const path = await client().storage.upload(new Blob([LORA], { type: "application/octet-stream" }));
  const [plain, uploaded, named] = [await image([]), await image([{ path }]), await image([{ path: "black-and-white" }])];
  assert.notEqual(uploaded, plain);
  assert.equal(named, uploaded);
  assert.equal(await image([{ path: "black-and-white", scale: 0 }]), plain);
});

test("a Blob in loras is uploaded", LIMIT, async () => {
  const blob = new Blob([LORA], { type: "application/octet-stream" });
  assert.equal(await image([{ path: blob }]), await image([{ path: "black-and-white" }]));
});

test("an adapter that cannot be used is an error of its field", LIMIT, async () => {
  const bad = new Blob(["<!doctype html>"], { type: "application/octet-stream" });
  for (const [path, kind] of [
    [bad, "value_error"],
    ["/etc/passwd", "value_error"],
    ["http://169.254.169.254/latest/meta-data", "file_download_error"],
  ]) {
    const input = small({ loras: [{ path: "black-and-white" }, { path }] });
    const error = await client().subscribe(ENDPOINT, { input }).catch((error) => error);
    assert.equal(error.status, 422);
    const [problem] = error.getFieldErrors("path");
    assert.deepEqual([problem.loc, problem.type], [["body", "loras", 1, "path"], kind]);
  }
});
