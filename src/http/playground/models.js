// Which model is asked: those that the server has, each at an endpoint of its own.

import { ENDPOINT, served } from "./api.js";
import { $, choice } from "./dom.js";

const KEPT = "latentd.endpoint";
/** What all titles begin with says nothing in a row of them. */
const FAMILY = "Stable Diffusion 3.5 ";

let endpoints = [ENDPOINT];
let picker = null;

/** Asks which models there are; `changed` is told when a person picks another. */
export async function start(changed) {
  const models = await served();
  if (models.length === 0) return;
  endpoints = models.map(({ endpoint }) => endpoint);
  picker = choice($("model"), "model", models.map(({ endpoint, title }) => [endpoint, title.replace(FAMILY, "")]));
  const kept = keep.get();
  picker.set(endpoints.includes(kept) ? kept : endpoints[0]);
  $("models").hidden = models.length < 2;
  $("model").addEventListener("change", () => {
    keep.set(current());
    changed();
  });
}

/** The endpoint that is asked. */
export const current = () => picker?.get() ?? endpoints[0];

/** Picks an endpoint; one that is not served, or not named, leaves all as it is. Says whether that is another. */
export function pick(endpoint) {
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
