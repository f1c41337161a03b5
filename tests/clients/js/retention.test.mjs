// Retention: a file expires when its request asked for it, and a request can ask not to be stored.

import assert from "node:assert/strict";
import { ENDPOINT, assertOutput, client, download, small } from "./support.mjs";
import { test } from "./wire.mjs";

const LIMIT = { timeout: 120_000 };

async function gone(url) {
  const deadline = Date.now() + 30_000;
  while ((await fetch(url)).status !== 404) {
    assert.ok(Date.now() < deadline, `${url} is still there`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

for (const call of ["run", "subscribe"]) {
  test(`storageSettings of ${call} set when the files of the result expire`, LIMIT, async () => {
    const { data } = await client()[call](ENDPOINT, { input: small(), storageSettings: { expiresIn: 5 } });
    const [{ url }] = data.images;
    const { headers } = await fetch(url);
    assert.ok(Number(headers.get("cache-control").match(/max-age=(\d+)/)[1]) <= 5);
    await gone(url);
  });
}

test("a request with X-Fal-Store-IO: 0 still returns its result", LIMIT, async () => {
  const fal = client();
  const { data } = await fal.subscribe(ENDPOINT, { input: small(), headers: { "X-Fal-Store-IO": "0" } });
  assertOutput(data, small());
  await download(data.images[0]);
});
