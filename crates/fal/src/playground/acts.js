// What a person may do: generate, cancel, delete, and bring earlier requests back.

import * as api from "./api.js";
import { $ } from "./dom.js";
import * as form from "./form.js";
import * as keyDialog from "./key-dialog.js";
import { learn } from "./limits.js";
import * as models from "./models.js";
import * as session from "./session.js";
import * as tabs from "./tabs.js";
import * as viewer from "./viewer.js";

/** A key that may not erase on the server still clears this browser. */
const NOT_ERASED = "Removed from this browser alone: on the server only the key of an administrator deletes.";

/** Sends the form. */
export async function generate() {
  form.clearProblems();
  if (form.showProblems(form.check()) > 0) return form.focusProblem();
  await send(models.current(), form.input(), form.size());
}

async function send(endpoint, input, size) {
  $("generate").disabled = true;
  try {
    if (!(await session.send(endpoint, input, size))) return;
    tabs.open("image");
    if (matchMedia("(max-width: 60rem)").matches) $("frame").scrollIntoView({ block: "center" });
  } finally {
    $("generate").disabled = false;
  }
}

/** Cancels the shown request; the end comes by the stream, also where the request was quicker than this call. */
export async function cancel() {
  const entry = session.shown();
  entry.live.cancelling = true;
  session.changed();
  await api.cancel(entry.id).catch((error) => {
    entry.live.cancelling = false;
    if (error.status !== 400) form.showProblems([{ msg: error.message }]);
    session.changed();
  });
}

/** Sends a failed request again. */
export async function again(entry) {
  await take(entry, entry.input);
  generate();
}

/** Shows an earlier request, and puts its settings with the seed that made it into the form. */
export async function choose(entry) {
  const { input, output } = entry;
  if (input) await take(entry, output ? { ...input, seed: output.seed } : input);
  session.show(entry);
  tabs.open("image");
}

/** Shows an image over the whole window. */
export function view(entry, index) {
  viewer.open(entry, index, session.listed());
}

/** Puts an input into the form, and chooses the model that it was sent to. */
async function take({ endpoint }, input) {
  if (models.pick(endpoint)) await learn(endpoint);
  form.fit();
  form.fill(input);
}

/** Another model was chosen: fields that had its predecessor's defaults get those of the new one. */
export async function swapModel() {
  const input = form.input();
  await learn(models.current());
  await take({}, input);
}

/** Puts a prompt into the form. */
export function usePrompt(prompt) {
  form.fill({ ...form.input(), prompt });
  $("prompt").focus();
}

export function useSeed(seed) {
  form.fill({ ...form.input(), seed });
}

/** Deletes a request on the server and in this browser. */
export async function remove(entry) {
  form.clearProblems();
  try {
    await api.erase(entry.id);
  } catch (error) {
    if (error.status === 401 && (await keyDialog.ask(api.key.get() !== ""))) return remove(entry);
    // Without an answer, or with another refusal, the image stays here, so that it can be deleted later.
    if (error.status !== 404) form.showProblems([{ msg: error.status === 403 ? NOT_ERASED : error.message }]);
    if (error.status !== 404 && error.status !== 403) return;
  }
  await session.forget([entry]);
  session.show(null);
}

export { checkFiles } from "./session.js";
