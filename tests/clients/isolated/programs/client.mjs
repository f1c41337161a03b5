// A program as in fal's documentation: nothing in it names this server.

import { fal } from "@fal-ai/client";

const [endpoint, text] = (globalThis.Deno?.args ?? process.argv.slice(2));
const input = JSON.parse(text);
const subscribed = await fal.subscribe(endpoint, { input, logs: true });
const stream = await fal.stream(endpoint, { input });
for await (const _ of stream);
const ran = await fal.run(endpoint, { input });
const uploaded = await fal.storage.upload(new Blob(["words"], { type: "text/plain" }));
if ((await (await fetch(uploaded)).text()) !== "words") throw new Error("an upload that is another file");
for (const { images } of [subscribed.data, await stream.done(), ran.data]) {
  const image = await fetch(images[0].url);
  if (image.headers.get("content-type") !== "image/jpeg") throw new Error(`no image: ${image.status}`);
}
console.log("OK");
