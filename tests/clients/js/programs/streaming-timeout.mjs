// A subscribe in streaming mode that runs out of time, where the client throws outside of every promise. Prints what
// its program hears, one event a line.

import { ENDPOINT, client, endless } from "../support.mjs";

const say = (...words) => console.log(words.join(" "));
if (process.argv[2] === "catches") process.on("uncaughtException", (error) => say("uncaught", error.message));

const subscribed = client().subscribe(ENDPOINT, {
  input: endless(),
  mode: "streaming",
  timeout: 1_500,
  onEnqueue: (id) => say("enqueued", id),
});
subscribed.then(() => say("resolved"), (error) => say("rejected", error.message));
