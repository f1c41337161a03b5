// The dialog that asks for a key where the server needs one.

import { key } from "./api.js";
import { $ } from "./dom.js";

const dialog = $("key-dialog");
let notify = () => {};
let answer = () => {};

/** `changed` is called when there is another key. */
export function start(changed) {
  notify = changed;
  $("key-button").addEventListener("click", () => ask(false));
  $("key-cancel").addEventListener("click", () => dialog.close());
  $("key-forget").addEventListener("click", () => {
    key.forget();
    dialog.close();
  });
  $("key-form").addEventListener("submit", () => {
    const value = $("key").value.trim();
    if (value === "") return;
    key.set(value, $("key-remember").checked);
    answer(true);
  });
  dialog.addEventListener("close", () => {
    $("key").value = "";
    refresh();
    answer(false);
  });
  refresh();
}

/** Opens the dialog; true once there is a new key. */
export function ask(wasRefused) {
  $("key-title").textContent = wasRefused ? "The server does not know this key" : "This server needs a key";
  $("key-remember").checked = key.isKept();
  $("key-forget").hidden = key.get() === "";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => (answer = resolve));
}

function refresh() {
  $("key-button").hidden = key.get() === "";
  notify();
}
