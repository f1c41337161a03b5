// The choice of a model, each at an endpoint of its own.

import * as api from "./api.js";
import { $, choice } from "./dom.js";
import { imageEndpoint } from "./limits.js";

const KEPT = "latentd.endpoint";
/** What all titles have says nothing in a row of them. */
const FAMILY = "Stable Diffusion 3.5 ";

/** What a title says that the others do not: where another model answers, the title begins with that one's name. */
const shortened = (title) => title.split(FAMILY).at(-1);

/** The models that answer in place of those that are listed. */
const standIns = (models) => new Set(models.filter(({ title }) => title.indexOf(FAMILY) > 0).map(({ name }) => name));

/** Those that the server has. */
let served = [];
let endpoints = [api.ENDPOINT];
let picker = null;

/** Asks which models there are; `changed` is called when another is chosen. */
export async function start(changed) {
  served = await api.served();
  if (served.length === 0) return;
  endpoints = served.map(({ endpoint }) => endpoint);
  picker = choice($("model"), "model", served.map(({ endpoint, title }) => [endpoint, shortened(title)]));
  const answering = [...standIns(served)].join(", ");
  if (answering) $("models").querySelector("legend").textContent = `Model, answered by ${answering}`;
  const kept = keep.get();
  picker.set(endpoints.includes(kept) ? kept : endpoints[0]);
  $("models").hidden = served.length < 2;
  $("model").addEventListener("change", () => {
    keep.set(current());
    changed();
  });
}

/** The chosen model's endpoint. */
export const current = () => picker?.get() ?? endpoints[0];

/** The endpoint of the chosen model that takes an input: another one where it has an initial image. */
export const endpointFor = (input) => (input.image_url ? imageEndpoint(current()) : null) ?? current();

/** The endpoint of the model that answers by a name: the chosen one if it is that, `undefined` if there is none. */
export function endpointOf(name) {
  const answering = served.filter((model) => model.name === name).map(({ endpoint }) => endpoint);
  return answering.includes(current()) ? current() : answering[0];
}

/** Picks the model of an endpoint; one that is not served, or not named, leaves all as it is. Says whether that is another. */
export function pick(sentTo) {
  const endpoint = sentTo?.replace(/\/image-to-image$/, "");
  if (!endpoints.includes(endpoint) || endpoint === current()) return false;
  picker.set(endpoint);
  keep.set(endpoint);
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
