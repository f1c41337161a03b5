// Says in the header how the server is, as soon as it goes or comes back.

import * as api from "./api.js";
import { $ } from "./dom.js";

const WORDS = {
  ready: "Ready",
  loading: "Loading the model",
  "no worker": "No worker runs",
  "every device is set aside": "Every device has failed",
  stopping: "Stopping",
  gone: "Server not reachable",
};

const POLL_MS = 2_000;

let timer;
let state;
let notify = () => {};

/** Asks for as long as somebody looks; `returned` is called when a server that was gone is back. */
export function start(returned) {
  notify = returned;
  api.whenUnreachable(check);
  for (const event of ["online", "offline", "visibilitychange"]) addEventListener(event, check);
  return check();
}

/** Asks now. */
async function check() {
  clearTimeout(timer);
  if (!document.hidden) show(await api.health());
  clearTimeout(timer);
  timer = setTimeout(check, POLL_MS);
}

function show(now) {
  const before = state;
  state = now;
  if (now === before) return;
  $("server").textContent = WORDS[now] ?? now;
  $("server").dataset.state = now;
  if (before === "gone") notify();
}
