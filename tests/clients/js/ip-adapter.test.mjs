// `ip_adapter` with @fal-ai/client: files of an input are uploaded, images change by the scale, a bad IP-Adapter is a 422.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { ENDPOINT, client, pixels, small } from "./support.mjs";
import { test } from "./wire.mjs";

const LIMIT = { timeout: 120_000 };
const HOUSE = new Blob([await readFile(new URL("../../../docs/images/red-house.jpg", import.meta.url))], { type: "image/jpeg" });
const NAMED = { path: "style", image_encoder_path: "style", image_url: HOUSE, scale: 1 };

/** The compressed pixels of the first image of a request with this IP-Adapter. */
async function image(ip_adapter) {
  const input = small({ num_inference_steps: 6, sync_mode: true, output_format: "png", enable_safety_checker: false, ...(ip_adapter && { ip_adapter }) });
  const { data } = await client().subscribe(ENDPOINT, { input });
  return pixels(Buffer.from(data.images[0].url.split(",")[1], "base64"));
}

test("a named IP-Adapter changes the image by its scale", LIMIT, async () => {
  const [plain, styled] = [await image(), await image(NAMED)];
  assert.notEqual(styled, plain);
  assert.equal(await image({ ...NAMED, image_url: await client().storage.upload(HOUSE) }), styled);
  assert.equal(await image({ ...NAMED, scale: 0 }), plain);
  assert.notEqual(await image({ ...NAMED, scale: 0.5 }), styled);
});

test("an IP-Adapter that cannot be used is an error of its field", LIMIT, async () => {
  for (const [field, value, kind] of [
    ["path", new Blob(["<!doctype html>"]), "value_error"],
    ["path", "/etc/passwd", "value_error"],
    ["image_encoder_path", "http://169.254.169.254/latest/meta-data", "value_error"],
    ["image_url", "http://169.254.169.254/latest/meta-data", "file_download_error"],
    ["scale", -1, "greater_than_equal"],
  ]) {
    const input = small({ ip_adapter: { ...NAMED, [field]: value } });
    const error = await client().subscribe(ENDPOINT, { input }).catch((error) => error);
    assert.equal(error.status, 422);
    const [problem] = error.getFieldErrors(field);
    assert.deepEqual([problem.loc, problem.type], [["body", "ip_adapter", field], kind]);
  }
});
