// A program as in fal's documentation: nothing in it names this server. Prints its results as JSON.

import { fal } from "@fal-ai/client";

const [endpoint, text] = process.argv.slice(2);
const input = JSON.parse(text);

const messages = [];
const subscribed = await fal.subscribe(endpoint, {
  input,
  logs: true,
  onQueueUpdate: (update) => {
    if (update.status === "IN_PROGRESS") update.logs.map((log) => log.message).forEach((line) => messages.push(line));
  },
});

const stream = await fal.stream(endpoint, { input });
let events = 0;
for await (const _ of stream) events += 1;
const streamed = await stream.done();

const ran = await fal.run(endpoint, { input });

const uploaded = await fal.storage.upload(new Blob(["words"], { type: "text/plain" }));
const read = await (await fetch(uploaded)).text();

const { request_id } = await fal.queue.submit(endpoint, { input });
await fal.queue.cancel(endpoint, { requestId: request_id }).catch(() => {});

const images = [];
for (const { url } of [subscribed.data, streamed, ran.data].flatMap((data) => data.images)) {
  images.push({ url, type: (await fetch(url)).headers.get("content-type") });
}
console.log(JSON.stringify({ images, messages, events, uploaded, read }));
