// Each way that README.md lists to redirect a program's calls to this server, in both modes of `subscribe`, from submit
// to image.

import assert from "node:assert/strict";
import { ENDPOINT, WAYS, client, download, small } from "./support.mjs";
import { test } from "./wire.mjs";

const LIMIT = { timeout: 60_000 };

for (const way of Object.keys(WAYS)) {
  for (const mode of ["polling", "streaming"]) {
    test(`subscribe by ${way}, ${mode}`, LIMIT, async () => {
      const updates = [];
      const { data, requestId } = await client(way).subscribe(ENDPOINT, {
        input: small(),
        logs: true,
        mode,
        onQueueUpdate: (update) => updates.push(structuredClone(update)),
      });
      assert.match(requestId, /^[0-9a-f-]{36}$/);
      assert.equal(updates.at(-1).status, "COMPLETED");
      assert.equal(updates.filter(({ status }) => status === "COMPLETED").length, 1);

      // In streaming mode the client appends the logs of each event, so a line that the server repeats would appear twice
      // here.
      const steps = updates.at(-1).logs.map((log) => log.message).filter((m) => /step \d\/4/.test(m));
      assert.equal(steps.length, 4, `${steps}`);
      await download(data.images[0]);
    });
  }

  test(`run by ${way}`, LIMIT, async () => {
    const { data } = await client(way).run(ENDPOINT, { input: small() });
    await download(data.images[0]);
  });
}
