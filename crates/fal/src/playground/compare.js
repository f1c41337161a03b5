// The comparison of two images: one above the other, with a divider that can be moved.

import { imageUrl } from "./api.js";
import { $, make } from "./dom.js";
import { factsOf, promptOf } from "./words.js";

/** The images to choose from, the place of the one below, and of the one above. */
let [items, first, second] = [[], 0, 0];

export function start() {
  $("divider").addEventListener("input", divide);
  $("handle").addEventListener("pointerdown", (event) => {
    event.stopPropagation();
    $("handle").setPointerCapture(event.pointerId);
  });
  $("handle").addEventListener("pointermove", (event) => {
    if (!$("handle").hasPointerCapture(event.pointerId)) return;
    const { left, width } = $("pane").getBoundingClientRect();
    $("divider").value = ((event.clientX - left) / width) * 100;
    divide();
  });
}

export const isOn = () => !$("comparison").hidden;

/** Compares the image at `at` with its neighbour. */
export function begin(all, at) {
  [items, first] = [all, at];
  $("viewer-strip").replaceChildren(...items.map(thumbnail));
  toggle(true);
  $("divider").value = 50;
  divide();
  choose(at + 1 < items.length ? at + 1 : at - 1);
}

export function end() {
  toggle(false);
  $("viewer-other").removeAttribute("src");
  $("viewer-strip").replaceChildren();
}

/** Compares with the next image but the one below. */
export function step(by) {
  const next = second + by === first ? second + 2 * by : second + by;
  if (next >= 0 && next < items.length) choose(next);
}

function toggle(on) {
  for (const name of ["comparison", "above", "handle"]) $(name).hidden = !on;
  $("viewer-compare").setAttribute("aria-pressed", String(on));
}

function choose(at) {
  second = at;
  const { entry, index } = items[at];
  $("viewer-other").src = imageUrl(entry.output.images[index].url);
  $("viewer-other").alt = promptOf(entry);
  $("comparison-words").textContent = `Right of the divider: ${promptOf(entry)} · ${factsOf(entry, index)}`;
  [...$("viewer-strip").children].forEach((tile, place) => {
    tile.firstChild.setAttribute("aria-current", String(place === at));
    if (place === at) tile.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}

function thumbnail({ entry, index }, at) {
  const source = (index === 0 && entry.thumb) || imageUrl(entry.output.images[index].url);
  const image = make("img", { loading: "lazy", alt: "", src: source });
  const label = `Compare with ${promptOf(entry)}, ${factsOf(entry, index)}`;
  const tile = make("button", { type: "button", disabled: at === first, "aria-label": label, onclick: () => choose(at) }, image);
  return make("li", {}, tile);
}

function divide() {
  $("pane").style.setProperty("--divide", `${$("divider").value}%`);
}
