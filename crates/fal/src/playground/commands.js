// The commands of the page: generate, cancel, delete, and bring earlier requests back.

import * as api from "./api.js";
import { $ } from "./dom.js";
import * as form from "./form.js";
import * as initialImage from "./initial-image.js";
import { learn } from "./limits.js";
import * as mask from "./mask.js";
import * as models from "./models.js";
import { NETWORKS } from "./networks.js";
import * as session from "./session.js";
import * as tabs from "./tabs.js";
import * as viewer from "./viewer.js";
import { promptOf, reproduction } from "./words.js";

/** Sends the form. */
export async function generate() {
  form.clearProblems();
  const ofNetworks = Object.values(NETWORKS).map(({ image }) => image);
  const given = [initialImage, mask, ...ofNetworks].filter((field) => field.get());
  for (const field of given) await field.ready();
  // What could not be uploaded is gone from its field, which says so.
  if (given.some((field) => !field.get())) return;
  if (form.showProblems(form.check()) > 0) return form.focusProblem();
  const input = form.input();
  await send(models.endpointFor(input), input, form.size());
}

async function send(endpoint, input, size) {
  $("generate").disabled = true;
  try {
    if (!(await session.send(endpoint, input, { size, model: models.answering() }))) return;
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
export function take({ endpoint }, input) {
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
  give(initialImage, entry, index);
  $("initial").scrollIntoView({ block: "nearest" });
  $("initial-file").focus();
}

/** Makes an image of a result that of a network of the form. */
export function steerBy(network, entry, index) {
  give(network, entry, index);
  network.show();
}

/** Gives a field of the form an image of a result. */
function give(field, entry, index) {
  viewer.close();
  const { url } = entry.output.images[index];
  const name = promptOf(entry);
  if (url.startsWith("data:")) field.useFile(api.blobOf(url), name);
  else field.useUrl(url, name);
}

/** Makes a request one of the favourites, or takes it out. */
export async function toggleFavourite(entry) {
  entry.favourite = !entry.favourite;
  session.changed();
  await session.keep(entry);
}

export { remove } from "./deletions.js";
export { checkFiles } from "./session.js";
