// A client that speaks only HTTP/2, without TLS: its connection preface announces it ("prior knowledge").

import assert from "node:assert/strict";
import { connect, constants } from "node:http2";
import { OwnServer } from "./server.mjs";
import { ENDPOINT, small } from "./support.mjs";
import { test } from "./wire.mjs";

const LIMIT = { timeout: 120_000 };

/** One request on a session: status, headers and body. */
async function call(session, method, path, body) {
  const headers = { [constants.HTTP2_HEADER_METHOD]: method, [constants.HTTP2_HEADER_PATH]: path };
  const stream = session.request({ ...headers, "content-type": "application/json" });
  const answered = new Promise((resolve, reject) => stream.once("response", resolve).once("error", reject));
  stream.end(body && JSON.stringify(body));
  const answer = await answered;
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return { status: answer[constants.HTTP2_HEADER_STATUS], answer, bytes: Buffer.concat(chunks) };
}

test("an HTTP/2-only client submits, polls, and fetches its image on one connection", LIMIT, async () => {
  const server = new OwnServer();
  try {
    const address = await server.launch("--safety-checker", "none");
    const session = connect(address);
    try {
      const json = async (...args) => JSON.parse((await call(session, ...args)).bytes);
      const { response_url, status_url } = await json("POST", `/queue/${ENDPOINT}`, small());
      const path = (url) => url.slice(address.length);
      assert.ok(status_url.startsWith(`${address}/queue/`), status_url);
      // Several calls at once share the connection.
      const asked = await Promise.all(Array.from({ length: 40 }, () => json("GET", path(status_url))));
      assert.ok(asked.every(({ status }) => ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"].includes(status)));
      while ((await json("GET", path(status_url))).status !== "COMPLETED") {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      const { images } = await json("GET", path(response_url));
      const image = await call(session, "GET", path(images[0].url));
      assert.equal(image.status, 200);
      assert.equal(image.bytes.length, Number(image.answer["content-length"]));
      const stream = await call(session, "POST", `/run/${ENDPOINT}/stream`, small());
      assert.match(stream.bytes.toString(), /^data: .*"images"/m);
    } finally {
      session.close();
    }
  } finally {
    await server.stop();
  }
});
