// The tab with the program for the image that is shown, or for the settings in the form.

import * as api from "./api.js";
import { HINTS, LANGUAGES, program } from "./code.js";
import { $, choice } from "./dom.js";
import * as models from "./models.js";
import { reproduction } from "./words.js";

const SUBJECTS = [["image", "The image shown"], ["form", "The form"]];

let language;
let subject;
/** The shown request and the form's input, as they were last. */
let [shown, input] = [null, { prompt: "" }];

export function start() {
  subject = choice($("code-of"), "code-of", SUBJECTS);
  subject.set("image");
  language = choice($("language"), "language", Object.entries(LANGUAGES));
  language.set("javascript");
  for (const name of ["code-of", "language"]) $(name).addEventListener("change", () => render());
  $("copy").addEventListener("click", copy);
}

/** Writes the program, of what is given now or was last. */
export function render(given = {}) {
  ({ shown = shown, input = input } = given);
  const needsKey = api.key.get() !== "";
  $("code-of").hidden = !isReproducible(shown);
  $("code").textContent = program(language.get(), { base: api.BASE, ...chosen(), needsKey });
  $("code-hint").textContent = HINTS[language.get()] + (needsKey ? ", and the key in FAL_KEY" : "");
}

/** The endpoint and the input of the program. */
function chosen() {
  if (!isReproducible(shown) || subject.get() === "form") return { endpoint: models.endpointFor(input), input };
  return { endpoint: shown.endpoint, input: reproduction(shown) };
}

/** Of a request that another browser sent, this one knows neither all settings nor the endpoint. */
const isReproducible = (entry) => entry?.state === "done" && Boolean(entry.endpoint);

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
