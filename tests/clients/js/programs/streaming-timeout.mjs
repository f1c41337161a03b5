// A subscribe in streaming mode that times out: the client throws outside of every promise. Prints each event that the
// program receives, one a line.

import { ENDPOINT, client, endless } from "../support.mjs";

const print = (...words) => console.log(words.join(" "));
if (process.argv[2] === "catches") process.on("uncaughtException", (error) => print("uncaught", error.message));

const subscribed = client().subscribe(ENDPOINT, {
  input: endless(),
  mode: "streaming",
  timeout: 1_500,
  onEnqueue: (id) => print("enqueued", id),
});
subscribed.then(() => print("resolved"), (error) => print("rejected", error.message));
