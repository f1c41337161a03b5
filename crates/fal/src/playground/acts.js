// What a person may do: generate, cancel, delete, and bring earlier requests back.

import * as api from "./api.js";
import { $ } from "./dom.js";
import * as form from "./form.js";
import * as keyDialog from "./key-dialog.js";
import * as initialImage from "./initial-image.js";
import { learn } from "./limits.js";
import * as models from "./models.js";
import * as session from "./session.js";
import * as tabs from "./tabs.js";
import * as viewer from "./viewer.js";
import { promptOf, reproduction } from "./words.js";

/** A key that may not erase on the server still clears this browser. */
const NOT_ERASED = "Removed from this browser alone: on the server only the key of an administrator deletes.";

/** Sends the form. */
export async function generate() {
  form.clearProblems();
  const initial = initialImage.get();
  await initialImage.ready();
  if (initial && !initialImage.get()) return;
  if (form.showProblems(form.check()) > 0) return form.focusProblem();
  const input = form.input();
  await send(models.endpointFor(input), input, form.size());
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
export function again(entry) {
  take(entry, entry.input);
  return generate();
}

/** Shows an earlier request, and puts its settings with the seed that made it into the form. */
export function choose(entry) {
  if (entry.input) take(entry, reproduction(entry));
  session.show(entry);
  tabs.open("image");
}

/** Shows an image over the whole window. */
export function view(entry, index) {
  viewer.open(entry, index, session.listed());
}

/** Puts an input into the form, and chooses the model that it was sent to. */
function take({ endpoint }, input) {
  if (models.pick(endpoint)) learn(models.current());
  form.fit();
  form.fill(input);
}

/** Another model was chosen: fields that had its predecessor's defaults get those of the new one. */
export function swapModel() {
  const input = form.input();
  learn(models.current());
  take({}, input);
}

/** Puts a prompt into the form. */
export function usePrompt(prompt) {
  form.fill({ ...form.input(), prompt });
  $("prompt").focus();
}

export function useSeed(seed) {
  form.fill({ ...form.input(), seed });
}

/** Generates one image of a batch alone: the same image. */
export function repeat(entry, index) {
  viewer.close();
  const { num_images, ...input } = reproduction(entry);
  const alone = { ...input, image_offset: (input.image_offset ?? 0) + index };
  if (alone.image_offset === 0) delete alone.image_offset;
  take(entry, alone);
  const { width, height } = entry.output.images[index];
  return send(entry.endpoint ?? models.endpointFor(alone), alone, [width, height]);
}

/** Makes an image of a result the initial image of the form. */
export function startFrom(entry, index) {
  viewer.close();
  const { url } = entry.output.images[index];
  const name = promptOf(entry);
  if (url.startsWith("data:")) initialImage.useFile(api.blobOf(url), name);
  else initialImage.useUrl(url, name);
  $("initial").scrollIntoView({ block: "nearest" });
  $("initial-file").focus();
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
