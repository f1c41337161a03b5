// A server without a worker, where every request stays queued: queue positions, a full queue, and start timeouts.

import assert from "node:assert/strict";
import { after, before } from "node:test";
import { ApiError, createFalClient } from "@fal-ai/client";
import { OwnServer } from "./server.mjs";
import { ENDPOINT, small, waysTo } from "./support.mjs";
import { withoutWaits } from "./waits.mjs";
import { test, wire } from "./wire.mjs";

const LIMIT = { timeout: 60_000 };
const server = new OwnServer();
let fal;

before(async () => {
  await server.launch("--workers", "0", "--max-queue", "3");
  fal = createFalClient(waysTo(server.url).requestMiddleware);
}, LIMIT);

after(() => server.stop());

const submit = (options = {}) => fal.queue.submit(ENDPOINT, { input: small(), ...options });
const position = async ({ request_id: requestId }) => (await fal.queue.status(ENDPOINT, { requestId })).queue_position;
const cancel = ({ request_id: requestId }) => fal.queue.cancel(ENDPOINT, { requestId });

test("low priority waits behind normal", LIMIT, async () => {
  const low = await submit({ priority: "low" });
  assert.equal(low.queue_position, 0);
  const normal = await submit();
  assert.equal(normal.queue_position, 0);
  assert.equal(await position(low), 1);
  await cancel(normal);
  assert.equal(await position(low), 0);
  await cancel(low);
});

test("a full queue is a 503, tried four times, and adds no request", LIMIT, async () => {
  const waiting = [await submit(), await submit(), await submit()];
  await withoutWaits(async () => {
    await assert.rejects(submit(), (error) => {
      assert.ok(error instanceof ApiError);
      assert.deepEqual([error.status, error.body.error_type], [503, "runner_scheduling_failure"]);
      return true;
    });
  });
  assert.equal((await wire.calls("POST")).length, 3 + 4);
  for (const request of waiting) await cancel(request);
  await assertQueueEmpty();
});

test("a run past its start timeout is a user 504, tried once", LIMIT, async () => {
  await assert.rejects(fal.run(ENDPOINT, { input: small(), startTimeout: 1.1 }), (error) => {
    assert.ok(error instanceof ApiError);
    assert.deepEqual([error.status, error.isUserTimeout], [504, true]);
    assert.equal(error.body.error_type, "request_timeout");
    return true;
  });
  sent504(await wire.call("POST"));
});

test("a subscribe past its start timeout ends, and its result is the 504", LIMIT, async () => {
  const updates = [];
  const subscribed = fal.subscribe(ENDPOINT, {
    input: small(),
    startTimeout: 1.1,
    pollInterval: 100,
    onQueueUpdate: (update) => updates.push(update),
  });
  await assert.rejects(subscribed, (error) => error.status === 504 && error.isUserTimeout);
  assert.deepEqual([updates.at(-1).status, updates.at(-1).error_type], ["COMPLETED", "request_timeout"]);
  sent504(await wire.call("GET", "/requests/[^/]*$"));
});

function sent504(call) {
  assert.equal(call.status, 504);
  assert.equal(call.answer_headers["x-fal-request-timeout-type"], "user");
}

test("a run whose connection breaks is sent again, and is queued once", LIMIT, async () => {
  await wire.breakCalls({ method: "POST", path: `^/${ENDPOINT}$`, drop: "begun" });
  const ran = withoutWaits(() => fal.run(ENDPOINT, { input: small(), startTimeout: 1.5 }));
  await assert.rejects(ran, (error) => error.status === 504);
  assert.deepEqual((await wire.calls("POST", `^/${ENDPOINT}$`)).map(({ status }) => status ?? "broken"), ["broken", 504]);
  await assertQueueEmpty();
});

async function assertQueueEmpty() {
  const next = await submit();
  assert.equal(next.queue_position, 0);
  await cancel(next);
}
