// The question before something that cannot be taken back.

import { $ } from "./dom.js";

const dialog = $("confirm");

/** Asks; true if the answer is yes, whose button has this label. */
export function ask(title, words, label) {
  $("confirm-title").textContent = title;
  $("confirm-words").textContent = words;
  $("confirm-yes").textContent = label;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
