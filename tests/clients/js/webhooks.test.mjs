// A submit with `webhookUrl`, received and checked with node's own crypto.

import assert from "node:assert/strict";
import { createHash, createPublicKey, verify } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { BASE, client, ENDPOINT, small } from "./support.mjs";
import { test, wire } from "./wire.mjs";

test("a webhook arrives and both of its signatures hold", { timeout: 60_000 }, async (t) => {
  const server = createServer();
  t.after(() => server.close());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const webhookUrl = `http://127.0.0.1:${server.address().port}/hook?a=1`;
  const arrives = once(server, "request");
  const fal = client();
  const { request_id: id } = await fal.queue.submit(ENDPOINT, { input: small(), webhookUrl });
  const [request, response] = await arrives;
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  response.writeHead(200).end("thank you");
  const body = Buffer.concat(chunks);

  const { keys } = await (await fetch(`${BASE}/.well-known/jwks.json`)).json();
  const key = createPublicKey({ key: keys[0], format: "jwk" });
  const header = (name) => request.headers[name];
  const at = header("x-fal-webhook-timestamp");
  const digest = createHash("sha256").update(body).digest("hex");
  const lines = [header("x-fal-webhook-request-id"), header("x-fal-webhook-user-id"), at, digest];
  const signature = Buffer.from(header("x-fal-webhook-signature"), "hex");
  assert.ok(verify(null, Buffer.from(lines.join("\n")), key, signature));
  const [version, standard] = header("webhook-signature").split(",");
  assert.equal(version, "v1a");
  const content = Buffer.concat([Buffer.from(`${header("webhook-id")}.${at}.`), body]);
  assert.ok(verify(null, content, key, Buffer.from(standard, "base64")));

  const message = JSON.parse(body);
  const { data } = await fal.queue.result(ENDPOINT, { requestId: id });
  assert.equal(message.request_id, id);
  assert.equal(message.status, "OK");
  assert.deepEqual(message.payload, data);
  const { url } = await wire.call("POST", "^/queue/");
  assert.ok(url.endsWith(`?fal_webhook=${encodeURIComponent(webhookUrl)}`), url);
});
