// The full-size view: one image over the whole window, with zoom, pan and keys, or two images to compare.

import { imageUrl } from "./api.js";
import * as compare from "./compare.js";
import { $ } from "./dom.js";
import { factsOf, promptOf } from "./words.js";
import { zoomable } from "./zoom.js";

/** How far an arrow key moves a zoomed image, in pixels. */
const PAN = 80;

const dialog = $("viewer");
let zoom;
let actionsOf;
/** What can be viewed, `{ entry, index }` for each image, and the place of the one that is. */
let [items, at] = [[], 0];

/** `actions(entry, index)` makes the buttons of an image. */
export function start(actions) {
  actionsOf = actions;
  zoom = zoomable($("stage"), $("pane"), showScale);
  compare.start();
  $("viewer-in").addEventListener("click", zoom.in);
  $("viewer-out").addEventListener("click", zoom.out);
  $("viewer-fit").addEventListener("click", () => zoom.to(1));
  $("viewer-previous").addEventListener("click", () => step(-1));
  $("viewer-next").addEventListener("click", () => step(1));
  $("viewer-close").addEventListener("click", close);
  $("viewer-compare").addEventListener("click", toggleComparison);
  $("viewer-image").addEventListener("load", () => zoom.to(1));
  dialog.addEventListener("keydown", pressed);
}

/** Opens the viewer at one image of a request; `entries` are those whose images can be looked through. */
export function open(entry, index, entries) {
  const viewable = entries.filter(({ state, gone }) => state === "done" && !gone);
  items = viewable.flatMap((each) => each.output.images.map((_, position) => ({ entry: each, index: position })));
  at = Math.max(0, items.findIndex((item) => item.entry === entry && item.index === index));
  endComparison();
  dialog.showModal();
  show();
}

export function close() {
  dialog.close();
}

function show() {
  const { entry, index } = items[at];
  const { url, width, height } = entry.output.images[index];
  const image = $("viewer-image");
  image.src = imageUrl(url);
  image.alt = promptOf(entry);
  $("pane").style.setProperty("--ratio", width / height);
  $("viewer-prompt").textContent = promptOf(entry);
  $("viewer-facts").textContent = factsOf(entry, index);
  $("viewer-actions").replaceChildren(...actionsOf(entry, index));
  $("viewer-previous").disabled = at === 0;
  $("viewer-next").disabled = at === items.length - 1;
  $("viewer-compare").disabled = items.length < 2;
  zoom.to(1);
}

/** Goes to another image; in a comparison it is the second one that changes. */
function step(by) {
  if (compare.isOn()) return compare.step(by);
  at = Math.min(items.length - 1, Math.max(0, at + by));
  show();
}

function toggleComparison() {
  if (compare.isOn()) endComparison();
  else beginComparison();
  zoom.to(1);
}

function beginComparison() {
  compare.begin(items, at);
  hideSteps(true);
}

function endComparison() {
  compare.end();
  hideSteps(false);
}

function hideSteps(hidden) {
  for (const name of ["viewer-previous", "viewer-next"]) $(name).hidden = hidden;
}

function pressed(event) {
  if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (arrow && zoom.isZoomed()) zoom.pan(-arrow[0] * PAN, -arrow[1] * PAN);
  else if (arrow) step(arrow[0] + arrow[1]);
  else if (event.key === "+" || event.key === "=") zoom.in();
  else if (event.key === "-") zoom.out();
  else if (event.key === "0") zoom.to(1);
  else if (event.key === "c" && items.length > 1) toggleComparison();
  else return;
  event.preventDefault();
}

/** Says how large the image is: 100 % where each of its pixels is one of the screen's. */
function showScale(scale) {
  const image = items[at]?.entry.output.images[items[at].index];
  const pixels = (scale * $("pane").offsetWidth * devicePixelRatio) / (image?.width ?? 1);
  $("viewer-scale").textContent = `${Math.round(pixels * 100)} %`;
}
