// The choice of a model, each at an endpoint of its own, and which model really answers there.

import * as api from "./api.js";
import { KNOWS, PROMPTS } from "./builtin.js";
import { $, button, choice, make } from "./dom.js";
import { imageEndpoint } from "./limits.js";

const KEPT = "latentd.endpoint";
/** What all titles have says nothing in a row of them. */
const FAMILY = "Stable Diffusion 3.5 ";
/** The name of the built-in model. */
const BUILTIN = "mini";

/** What a title says that the others do not: where another model answers, the title begins with that one's name. */
const shortened = (title) => title.split(FAMILY).at(-1);

/** Those that the server has. */
let served = [];
let endpoints = [api.ENDPOINT];
let picker = null;

/** Asks which models there are; `changed` is called when another is chosen, `prompt(text)` when a prompt is clicked. */
export async function start(changed, prompt) {
  $("known-prompts").replaceChildren(...PROMPTS.map((text) => make("li", {}, button(text, () => prompt(text)))));
  $("knows-words").textContent = `It was trained on drawn scenes alone: ${KNOWS}.`;
  $("model").addEventListener("change", () => {
    keep.set(current());
    render();
    changed();
  });
  await refresh();
}

/** Asks again which models there are. */
export async function refresh() {
  const now = await api.served();
  if (now.length === 0) return;
  served = now;
  endpoints = served.map(({ endpoint }) => endpoint);
  const chosen = picker?.get() ?? keep.get();
  $("model").replaceChildren();
  picker = choice($("model"), "model", served.map(({ endpoint, title }) => [endpoint, shortened(title)]));
  picker.set(endpoints.includes(chosen) ? chosen : endpoints[0]);
  $("models").hidden = false;
  $("model").hidden = served.length < 2;
  render();
}

/** Names the model that answers. */
function render() {
  const model = chosenModel();
  const isBuiltin = model?.name === BUILTIN;
  const asked = served.length > 1 ? "" : `, in place of ${FAMILY}${shortened(model.title)}`;
  $("answering").textContent = isBuiltin ? `${BUILTIN} answers, the small built-in model for trying things out${asked}.` : model.title;
  $("answering").hidden = !isBuiltin && served.length > 1;
  $("knows").hidden = !isBuiltin;
}

const chosenModel = () => served.find(({ endpoint }) => endpoint === current());

/** The name of the model that answers; `undefined` while the server has not said. */
export const answering = () => chosenModel()?.name;

/** The chosen model's endpoint. */
export const current = () => picker?.get() ?? endpoints[0];

/** The endpoint of the chosen model that takes an input: another one where it has an initial image, or a mask of it. */
export const endpointFor = ({ image_url: image, mask_image_url: mask }) =>
  (image ? imageEndpoint(current(), Boolean(mask)) : null) ?? current();

/** The endpoint of the model that answers by a name: the chosen one if it is that, `undefined` if there is none. */
export function endpointOf(name) {
  const named = served.filter((model) => model.name === name).map(({ endpoint }) => endpoint);
  return named.includes(current()) ? current() : named[0];
}

/** Picks the model of an endpoint; one that is not served, or not named, leaves all as it is. Says whether that is another. */
export function pick(sentTo) {
  const endpoint = sentTo?.replace(/\/(image-to-image|inpaint)$/, "");
  if (!endpoints.includes(endpoint) || endpoint === current()) return false;
  picker.set(endpoint);
  keep.set(endpoint);
  render();
  return true;
}

const keep = {
  get() {
    try {
      return localStorage.getItem(KEPT);
    } catch {
      return null;
    }
  },
  set(endpoint) {
    try {
      localStorage.setItem(KEPT, endpoint);
    } catch {
      // A full or forbidden store only means that a reload forgets it.
    }
  },
};
