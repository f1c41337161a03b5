// The gallery: all images of this browser, with search, favourites and a selection that can be deleted.

import { $, make } from "./dom.js";
import { promptOf } from "./words.js";

const tiles = new Map();
const selected = new Set();
let commands;
/** Every finished request, the newest first. */
let finished = [];

/** Starts the gallery; `commands` are those of the page. */
export function start(given) {
  commands = given;
  for (const name of ["gallery-search", "gallery-favourites"]) $(name).addEventListener("input", update);
  $("gallery-all").addEventListener("click", () => {
    matching().forEach(({ id }) => selected.add(id));
    update();
  });
  $("gallery-none").addEventListener("click", clear);
  $("gallery-delete").addEventListener("click", () => {
    const entries = finished.filter(({ id }) => selected.has(id));
    selected.clear();
    commands.remove(entries);
    $("gallery-search").focus();
  });
}

/** Renders the gallery, where it is open. */
export function render(entries) {
  finished = entries.filter(({ state }) => state === "done");
  if (!$("view-gallery").hidden) update();
}

function clear() {
  selected.clear();
  update();
}

/** The requests whose prompt has every word of the search, or whose seed it is. */
function matching() {
  const words = $("gallery-search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const has = (entry) => {
    const text = `${promptOf(entry)} ${entry.output.seed}`.toLowerCase();
    return words.every((word) => text.includes(word)) && (entry.favourite || !$("gallery-favourites").checked);
  };
  return finished.filter(has);
}

function update() {
  const entries = matching();
  const ids = new Set(finished.map(({ id }) => id));
  for (const id of selected) if (!ids.has(id)) selected.delete(id);
  for (const id of tiles.keys()) if (!ids.has(id)) tiles.delete(id);
  const wanted = entries.map(tileOf);
  const list = $("gallery");
  if (wanted.length !== list.children.length || wanted.some((tile, at) => tile !== list.children[at])) list.replaceChildren(...wanted);
  $("gallery-count").textContent = selected.size > 0 ? `${selected.size} selected` : `${entries.length} of ${finished.length}`;
  $("gallery-selection").hidden = selected.size === 0;
  $("gallery-empty").hidden = entries.length > 0;
  $("gallery-empty").textContent = finished.length > 0 ? "No image matches." : "Your images are listed here, in this browser only.";
}

/** The tile of a request as it is now. */
function tileOf(entry) {
  const tile = tiles.get(entry.id) ?? create(entry);
  const [open, check, star, count] = tile.children;
  const prompt = promptOf(entry);
  const [image, words] = open.children;
  if (entry.thumb && image.getAttribute("src") !== entry.thumb) image.src = entry.thumb;
  image.hidden = !entry.thumb;
  words.textContent = prompt;
  tile.classList.toggle("is-gone", Boolean(entry.gone));
  check.firstChild.checked = selected.has(entry.id);
  star.setAttribute("aria-pressed", String(Boolean(entry.favourite)));
  count.hidden = entry.output.images.length === 1;
  count.textContent = `${entry.output.images.length} images`;
  return tile;
}

function create(entry) {
  const prompt = promptOf(entry);
  const image = make("img", { alt: "", loading: "lazy" });
  const open = make("button", { type: "button", className: "tile-open", title: prompt, onclick: () => commands.choose(entry) }, image, make("span"));
  const box = make("input", { type: "checkbox", "aria-label": `Select ${prompt}` });
  box.addEventListener("change", () => {
    if (box.checked) selected.add(entry.id);
    else selected.delete(entry.id);
    update();
  });
  const star = make("button", { type: "button", className: "star", "aria-label": `Favourite ${prompt}`, onclick: () => commands.toggleFavourite(entry) }, "★");
  const tile = make("li", {}, open, make("label", { className: "tile-check" }, box), star, make("span", { className: "tile-count" }));
  tiles.set(entry.id, tile);
  return tile;
}
