// Cross-site requests: a page of another site cannot use the server, except from origins that the operator allows.

import assert from "node:assert/strict";
import http from "node:http";
import { after } from "node:test";
import { ENDPOINT, clientPage, pageTest, servePage, startServer } from "./support.mjs";

const served = await servePage(await clientPage());
const evil = `http://evil.example:${served.port}`;
const app = `http://app.example:${served.port}`;

// The target of a webhook to this machine or of an image from it.
const received = [];
const victim = http.createServer((request, response) => (received.push(`${request.method} ${request.url}`), response.end("hi")));
await new Promise((resolve) => victim.listen(0, "127.0.0.1", resolve));
after(() => (victim.closeAllConnections(), victim.close()));
const local = `http://127.0.0.1:${victim.address().port}`;

const server = await startServer({ args: ["--allow-origin", app] });
const origins = [evil, server.origin];
const input = { prompt: "from a page", image_size: { width: 64, height: 64 }, num_inference_steps: 1 };

pageTest("a page of another site can read nothing and starts no request", { origins, refusals: true, blocked: true }, async (page) => {
  await page.goto(evil);
  const got = await page.evaluate(attack, { base: server.url, endpoint: ENDPOINT, input, local });
  assert.deepEqual(got, Object.fromEntries(Object.keys(got).map((name) => [name, "nothing"])));
  assert.equal(Object.keys(got).length, 13);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  assert.match(metrics, /latentd_queue_depth\{priority="normal"\} 0/);
  assert.doesNotMatch(metrics, /latentd_requests_total\{/, "no request was accepted");
  assert.match(metrics, /latentd_rejected_total\{reason="foreign_origin"\} \d\d/);
  assert.deepEqual(received, []);
});

pageTest("a form of another site starts no request", { origins, refusals: true }, async (page) => {
  await page.goto(evil);
  const answered = page.waitForResponse((response) => response.url().includes("/queue/"));
  await page.evaluate((action) => {
    const form = Object.assign(document.createElement("form"), { action, method: "post", enctype: "text/plain" });
    form.append(Object.assign(document.createElement("input"), { name: '{"prompt":"x","a":"', value: '"}' }));
    document.body.append(form);
    form.submit();
  }, `${server.url}/queue/${ENDPOINT}`);
  assert.equal((await answered).status(), 403);
});

pageTest("a link of another site starts no request", { origins, refusals: true }, async (page) => {
  await page.goto(evil);
  const answered = page.waitForResponse((response) => response.url().includes("/run/"));
  await page.evaluate((url) => void (location.href = url), `${server.url}/run/${ENDPOINT}?prompt=x`);
  assert.equal((await answered).status(), 403);
});

pageTest("another host name that resolves to the server is rejected", { origins: [`http://rebound.example:${server.port}`], refusals: true }, async (page) => {
  const answer = await page.goto(`http://rebound.example:${server.port}/`);
  assert.equal(answer.status(), 421);
  const statuses = await page.evaluate(async (endpoint) => {
    const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"prompt":"x"}' };
    const all = [fetch("/health"), fetch(`/queue/${endpoint}`, post), fetch("/tokens/", post)];
    return (await Promise.all(all)).map((response) => response.status);
  }, ENDPOINT);
  assert.deepEqual(statuses, [421, 421, 421]);
});

pageTest("a link of another site opens the playground and the docs", { origins, refusals: true }, async (page) => {
  for (const [path, title] of [["/", /latentd/i], ["/docs", /latentd/i]]) {
    await page.goto(evil);
    const opened = page.waitForResponse((response) => response.url() === server.url + path);
    await page.evaluate((url) => void (location.href = url), server.url + path);
    assert.equal((await opened).status(), 200);
    await page.waitForLoadState("networkidle");
    assert.match(await page.title(), title);
  }
});

pageTest("@fal-ai/client works in a page of an allowed site", { origins: [app, server.origin], refusals: true }, async (page) => {
  await page.goto(app);
  const seen = await page.evaluate(async ({ base, endpoint, input }) => {
    const { fal } = globalThis.client;
    fal.config({ credentials: "local:key", suppressLocalCredentialsWarning: true, proxyUrl: `${base}/api/fal/proxy` });
    const { data, requestId } = await fal.subscribe(endpoint, { input, logs: true });
    const url = await fal.storage.upload(new Blob(["words"], { type: "text/plain" }));
    const image = await (await fetch(data.images[0].url)).blob();
    return { requestId, image: image.type, uploaded: await (await fetch(url)).text() };
  }, { base: server.url, endpoint: ENDPOINT, input });
  assert.match(seen.requestId, /^[0-9a-f-]{36}$/);
  assert.deepEqual([seen.image, seen.uploaded], ["image/jpeg", "words"]);
});

/** Runs in the page: tries each kind of request; returns what the page could read of each, or "nothing". */
async function attack({ base, endpoint, input, local }) {
  const run = `${base}/run/${endpoint}`;
  const queue = `${base}/queue/${endpoint}`;
  const body = JSON.stringify(input);
  const read = async (url, options) => (await fetch(url, options)).text();
  const json = { method: "POST", body, headers: { "Content-Type": "application/json" } };
  const withImage = (image_url) => JSON.stringify({ ...input, image_url });
  const attempts = {
    health: () => read(`${base}/health`),
    metrics: () => read(`${base}/metrics`),
    document: () => read(`${base}/openapi.json`),
    "simple run": () => read(run, { method: "POST", body }),
    "run with a preflight": () => read(run, json),
    "run by GET": () => read(`${run}?prompt=x`),
    "webhook to this machine": () => read(`${queue}?fal_webhook=${local}/admin/delete`, { method: "POST", body }),
    "image from this machine": () => read(`${run}/image-to-image`, { method: "POST", body: withImage(`${local}/secret`) }),
    upload: () => read(`${base}/files/upload`, { method: "POST", body: new Uint8Array(5e6) }),
    token: () => read(`${base}/tokens/`, { method: "POST", body: JSON.stringify({ allowed_apps: [endpoint] }) }),
    proxy: () => read(`${base}/api/fal/proxy`, { ...json, headers: { ...json.headers, "x-fal-target-url": `https://fal.run/${endpoint}` } }),
    "opaque submit": async () => (await fetch(queue, { method: "POST", body, mode: "no-cors" })).type === "opaque" && Promise.reject(),
    "web socket": () =>
      new Promise((resolve, reject) => {
        const socket = new WebSocket(`${base.replace("http", "ws")}/${endpoint}/realtime`);
        Object.assign(socket, { onopen: () => resolve("open"), onerror: () => reject() });
      }),
  };
  const got = {};
  for (const [name, attempt] of Object.entries(attempts)) {
    got[name] = await attempt().then((text) => text.slice(0, 60), () => "nothing");
  }
  return got;
}
