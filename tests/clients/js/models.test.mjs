// Several models: each endpoint with its own defaults, and a server whose memory holds one model at a time.

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { ApiError } from "@fal-ai/client";
import { OwnServer } from "./server.mjs";
import { BASE, ENDPOINT, assertOutput, client, download, small } from "./support.mjs";
import { test } from "./wire.mjs";

const LIMIT = { timeout: 180_000 };
const TURBO = `${ENDPOINT}/turbo`;
const MEDIUM = "fal-ai/stable-diffusion-v35-medium";

/** A model of a few hundred KB with the blocks of SD3.5 Medium and random weights. */
const TINY_MEDIUM = fileURLToPath(new URL("../../parity/golden/dual/model", import.meta.url));

const { num_inference_steps: _, ...input } = small();

/** The result of a subscribe, and its log lines. */
async function generate(fal, endpoint, overrides = {}) {
  const lines = new Map();
  const result = await fal.subscribe(endpoint, {
    input: { ...input, ...overrides },
    logs: true,
    onQueueUpdate: ({ logs }) => (logs ?? []).forEach(({ timestamp, message }) => lines.set(timestamp + message, message)),
  });
  return { ...result, lines: [...lines.values()] };
}

for (const [endpoint, steps] of [[ENDPOINT, 28], [TURBO, 4], [MEDIUM, 40]]) {
  test(`${endpoint} takes ${steps} steps when none are asked for`, LIMIT, async () => {
    const { data, lines } = await generate(client(), endpoint);
    assertOutput(data, { prompt: input.prompt });
    await download(data.images[0]);
    const last = lines.filter((line) => line.startsWith("step ")).at(-1);
    assert.ok(last.startsWith(`step ${steps}/${steps} `), last);
  });
}

test("/health lists the endpoints and the model of each", LIMIT, async () => {
  const { models } = await (await fetch(`${BASE}/health`)).json();
  assert.deepEqual(models.map(({ endpoint }) => endpoint), [ENDPOINT, TURBO, MEDIUM]);
  assert.ok(models.every(({ name }) => name === "mini"), "the name of the model that serves it");
  assert.ok(models.every(({ loaded }) => loaded === 1), "one built-in model stands in for all of them");
});

test("with memory for one of two models, they are loaded in turn", LIMIT, async () => {
  const server = new OwnServer();
  try {
    const models = ["--model", "mini", "--model", `stable-diffusion-3.5-medium=${TINY_MEDIUM}`];
    // The built-in model takes 96 MB, the other 66: both with the 64 MiB that loading may need for a moment.
    await server.start(...models, "--safety-checker", "none", "--memory-budget", "100MB");
    const fal = server.client();
    const endpoints = [ENDPOINT, MEDIUM, ENDPOINT, MEDIUM, TURBO, ENDPOINT];
    const loaded = [];
    const results = endpoints.map((endpoint) => generate(fal, endpoint, { num_inference_steps: 4, sync_mode: true }));
    const all = Promise.all(results);
    let over = false;
    all.finally(() => (over = true)).catch(() => {});
    while (!over) {
      const health = await (await fetch(`${server.url}/health`)).json();
      loaded.push(health.models.filter((model) => model.loaded > 0).map(({ endpoint }) => endpoint).join());
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    for (const { data } of await all) assertOutput(data, { prompt: input.prompt });
    const seen = new Set(loaded.filter(Boolean));
    assert.deepEqual([...seen].sort(), [`${ENDPOINT},${TURBO}`, MEDIUM], "never both are loaded");

    const medium = await generate(fal, MEDIUM);
    const again = await generate(fal, ENDPOINT);
    assert.ok(medium.lines.some((line) => line.startsWith("step 40/40 ")), "its own defaults here too");
    assert.ok(again.lines.includes("loading mini"), again.lines.join("\n"));
    assert.ok(again.data.timings.load > 0);
  } finally {
    await server.stop();
  }
});

test("an endpoint that is not served is a 404 that names the flag to start it with", LIMIT, async () => {
  const server = new OwnServer();
  try {
    await server.start("--model", TINY_MEDIUM, "--safety-checker", "none");
    const fal = server.client();
    const [{ url }] = (await generate(fal, MEDIUM)).data.images;
    assert.equal((await fetch(url)).status, 200);
    for (const endpoint of [ENDPOINT, TURBO]) {
      const error = await fal.subscribe(endpoint, { input }).then(() => assert.fail("it is served"), (error) => error);
      assert.ok(error instanceof ApiError && error.status === 404, String(error));
      assert.match(error.body.detail, /not found: start the server with `--model stable-diffusion-3\.5-large/);
    }
  } finally {
    await server.stop();
  }
});
