// Runs whose response headers are sent before the run ends. Here `--run-headers-after 0` sends them at once.

import assert from "node:assert/strict";
import { after, before } from "node:test";
import { OwnServer } from "./server.mjs";
import { ENDPOINT, assertOutput, endless, small } from "./support.mjs";
import { test } from "./wire.mjs";

const LIMIT = { timeout: 120_000 };
const server = new OwnServer();
before(() => server.start("--run-headers-after", "0"), LIMIT);
after(() => server.stop());

test("white space before a result does not matter to the client", LIMIT, async () => {
  const { data, requestId } = await server.client().run(ENDPOINT, { input: small() });
  assertOutput(data, small());
  assert.match(requestId, /^[0-9a-f-]{36}$/);
});

test("a failure after the headers is an exception in the program, and the client does not retry", LIMIT, async () => {
  let calls = 0;
  let id, cancelled;
  const fetch = async (url, init) => {
    const response = await globalThis.fetch(url, init);
    calls += 1;
    id = response.headers.get("x-fal-request-id");
    assert.equal(response.status, 200);
    cancelled = server.client().queue.cancel(ENDPOINT, { requestId: id });
    return response;
  };
  await assert.rejects(server.client("local:key", { fetch }).run(ENDPOINT, { input: endless() }), SyntaxError);
  await cancelled;
  assert.equal(calls, 1);
  await assert.rejects(server.client().queue.result(ENDPOINT, { requestId: id }), { status: 499 });
});
