// A page of another origin that uses @fal-ai/client in the browser, directly against the server.

import assert from "node:assert/strict";
import { BASE, ENDPOINT, clientPage, pageTest, servePage } from "./support.mjs";

const server = await servePage(await clientPage());

// Another host name for this machine: a different site, not only a different port.
const origin = `http://localhost:${server.port}`;
const origins = [origin, new URL(BASE).origin];

const input = { prompt: "a lighthouse", image_size: { width: 128, height: 96 }, num_inference_steps: 4, seed: 7 };

for (const way of ["proxyUrl", "requestMiddleware"]) {
  pageTest(`submit, status, result and upload by ${way} from another origin`, { origins, refusals: true }, async (page) => {
    await page.goto(origin);
    await page.evaluate(configure, { way, base: BASE });
    const seen = await page.evaluate(visit, { endpoint: ENDPOINT, input });
    assert.match(seen.requestId, /^[0-9a-f-]{36}$/, "the id's header may be read");
    assert.equal(seen.submitted.status, "IN_QUEUE");
    assert.equal(seen.last.status, "COMPLETED");
    assert.ok(seen.streamed.some(({ logs }) => logs.some(({ message }) => /step 4\/4/.test(message))));
    assert.deepEqual(seen.data.images.map(({ width, height }) => [width, height]), [[128, 96]]);
    assert.deepEqual(seen.pixels, [128, 96], "a canvas may read the image");
    assert.equal(seen.uploaded, "words from a page");
    assert.deepEqual(seen.problems.map(({ loc }) => loc), [["body", "num_inference_steps"]]);
    assert.equal(seen.cancelled.error_type, "client_cancelled");
  });
}

/** Runs in the page. */
function configure({ way, base }) {
  const local = (url) =>
    url.replace("https://queue.fal.run/", `${base}/queue/`).replace(/^https:\/\/(fal\.run|rest\.fal\.ai)\//, `${base}/`);
  globalThis.client.fal.config({
    credentials: "local:key",
    suppressLocalCredentialsWarning: true,
    ...(way === "proxyUrl"
      ? { proxyUrl: `${base}/api/fal/proxy` }
      : { requestMiddleware: async (request) => ({ ...request, url: local(request.url) }) }),
  });
}

/** Runs in the page: makes each call that web applications make. */
async function visit({ endpoint, input }) {
  const { fal } = globalThis.client;
  const submitted = await fal.queue.submit(endpoint, { input, priority: "low", hint: "h", startTimeout: 120 });
  const requestId = submitted.request_id;
  const streamed = [];
  const stream = await fal.queue.streamStatus(endpoint, { requestId, logs: true });
  for await (const status of stream) streamed.push(status);
  const last = await fal.queue.status(endpoint, { requestId, logs: true });
  const result = await fal.queue.result(endpoint, { requestId });

  const image = new Image();
  image.crossOrigin = "anonymous";
  image.src = result.data.images[0].url;
  await image.decode();
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  context.getImageData(0, 0, 1, 1);

  const url = await fal.storage.upload(new Blob(["words from a page"], { type: "text/plain" }));
  const uploaded = await (await fetch(url)).text();

  const refused = await fal.subscribe(endpoint, { input: { ...input, num_inference_steps: 99 } }).catch((error) => error);
  const long = { ...input, image_size: "square_hd", num_inference_steps: 50, num_images: 4 };
  const running = (await fal.queue.submit(endpoint, { input: long })).request_id;
  await fal.queue.cancel(endpoint, { requestId: running });
  let cancelled;
  do cancelled = await fal.queue.status(endpoint, { requestId: running });
  while (cancelled.status !== "COMPLETED");
  return {
    submitted,
    streamed,
    last,
    data: result.data,
    requestId: result.requestId,
    pixels: [image.naturalWidth, image.naturalHeight],
    uploaded,
    problems: refused.fieldErrors,
    cancelled,
  };
}
