// The strip of the newest requests, with a tile for each.

import { $, make } from "./dom.js";
import { phaseOf, progressOf, promptOf, shortState } from "./words.js";

/** Tiles of the strip at most; the gallery has all. */
const TILES = 60;

const tiles = new Map();

/** Renders the strip; `choose(entry)` is called with the one that is chosen. */
export function render(entries, shown, choose) {
  const list = $("history");
  const newest = entries.slice(0, TILES);
  const ids = new Set(newest.map(({ id }) => id));
  for (const [id, tile] of tiles) {
    if (ids.has(id)) continue;
    tile.remove();
    tiles.delete(id);
  }
  newest.forEach((entry, index) => {
    const tile = tiles.get(entry.id) ?? create(entry.id);
    tile.firstChild.onclick = () => choose(entry);
    update(tile, entry, entry === shown);
    if (list.children[index] !== tile) list.insertBefore(tile, list.children[index] ?? null);
  });
  $("history-hint").hidden = entries.length > 0;
  list.hidden = entries.length === 0;
}

function create(id) {
  const words = make("span", { className: "tile-words" }, make("b"), make("span"));
  const tile = make("li", {}, make("button", { type: "button" }, make("img", { alt: "", hidden: true }), words, make("i")));
  tiles.set(id, tile);
  return tile;
}

function update(tile, entry, isShown) {
  const [button] = tile.children;
  const [image, words] = button.children;
  const phase = phaseOf(entry);
  tile.dataset.phase = phase;
  tile.classList.toggle("is-gone", Boolean(entry.gone));
  const source = entry.thumb ?? entry.live?.preview;
  if (source && image.getAttribute("src") !== source) image.src = source;
  image.hidden = !source;
  // Without an image yet, a tile says which request it is and how far.
  const prompt = promptOf(entry);
  words.hidden = Boolean(source);
  words.firstChild.textContent = shortState(entry);
  words.lastChild.textContent = prompt;
  button.style.setProperty("--part", progressOf(entry, phase).part ?? 0);
  button.setAttribute("aria-current", String(isShown));
  const state = { done: entry.gone ? ", no longer on the server" : "", failed: ", failed" }[phase] ?? ", not done yet";
  button.setAttribute("aria-label", `${prompt}${state}`);
  button.title = prompt.length > 120 ? `${prompt.slice(0, 120)}…` : prompt;
}
