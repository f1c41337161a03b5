// The tab with the program for the present settings.

import * as api from "./api.js";
import { HINTS, LANGUAGES, program } from "./code.js";
import { $, choice } from "./dom.js";
import * as models from "./models.js";

let language;
let present = { prompt: "" };

export function start() {
  language = choice($("language"), "language", Object.entries(LANGUAGES));
  language.set("javascript");
  $("language").addEventListener("change", () => render(present));
  $("copy").addEventListener("click", copy);
}

/** Writes the program for an input. */
export function render(input) {
  present = input;
  const needsKey = api.key.get() !== "";
  const settings = { base: api.BASE, endpoint: models.endpointFor(input), input, needsKey };
  $("code").textContent = program(language.get(), settings);
  $("code-hint").textContent = HINTS[language.get()] + (needsKey ? ", and the key in FAL_KEY" : "");
}

async function copy() {
  const text = $("code").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages that come over plain HTTP from another machine have no clipboard: select the text instead.
    getSelection().selectAllChildren($("code"));
    if (!document.execCommand("copy")) return announce("Press Ctrl C");
  }
  announce("Copied");
}

function announce(word) {
  $("copy").textContent = word;
  $("announce").textContent = word;
  setTimeout(() => ($("copy").textContent = "Copy"), 2_000);
}
