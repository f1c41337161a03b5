// `controlnet` with @fal-ai/client: files of an input are uploaded, images change by the scale, a bad ControlNet is a 422.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { ENDPOINT, client, pixels, small } from "./support.mjs";
import { test } from "./wire.mjs";

const LIMIT = { timeout: 120_000 };
const FOLDER = new URL("../../../models/mini-controlnet/", import.meta.url);
const NET = new Blob([await readFile(new URL("diffusion_pytorch_model.safetensors", FOLDER))]);
const EDGES = new Blob([await readFile(new URL("house-edges.png", FOLDER))], { type: "image/png" });

/** The compressed pixels of the first image of a request with this ControlNet: the file's text names the ControlNet. */
async function image(controlnet) {
  const input = small({ num_inference_steps: 6, sync_mode: true, output_format: "png", ...(controlnet && { controlnet }) });
  const { data } = await client().subscribe(ENDPOINT, { input });
  return pixels(Buffer.from(data.images[0].url.split(",")[1], "base64"));
}

test("a named ControlNet changes the image by its scale, and so does a Blob of its file", LIMIT, async () => {
  const named = { path: "edges", control_image_url: EDGES };
  const [plain, followed] = [await image(), await image(named)];
  assert.notEqual(followed, plain);
  assert.equal(await image({ path: NET, control_image_url: await client().storage.upload(EDGES) }), followed);
  assert.equal(await image({ ...named, conditioning_scale: 0 }), plain);
  assert.notEqual(await image({ ...named, conditioning_scale: 0.5 }), followed);
});

test("a ControlNet that cannot be used is an error of its field", LIMIT, async () => {
  for (const [path, kind] of [
    [new Blob(["<!doctype html>"]), "value_error"],
    ["/etc/passwd", "value_error"],
    ["http://169.254.169.254/latest/meta-data", "file_download_error"],
  ]) {
    const input = small({ controlnet: { path, control_image_url: EDGES } });
    const error = await client().subscribe(ENDPOINT, { input }).catch((error) => error);
    assert.equal(error.status, 422);
    const [problem] = error.getFieldErrors("path");
    assert.deepEqual([problem.loc, problem.type], [["body", "controlnet", "path"], kind]);
  }
});
