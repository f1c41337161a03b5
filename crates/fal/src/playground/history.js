// The strip of earlier images, the newest first.

import { $, make } from "./dom.js";
import { phaseOf, progressOf } from "./words.js";

const tiles = new Map();

/** Draws the strip; `choose(entry)` is called with the one that is chosen. */
export function draw(entries, shown, choose) {
  const list = $("history");
  const ids = new Set(entries.map(({ id }) => id));
  for (const [id, tile] of tiles) {
    if (ids.has(id)) continue;
    tile.remove();
    tiles.delete(id);
  }
  entries.forEach((entry, index) => {
    const tile = tiles.get(entry.id) ?? create(entry.id);
    tile.firstChild.onclick = () => choose(entry);
    update(tile, entry, entry === shown);
    if (list.children[index] !== tile) list.insertBefore(tile, list.children[index] ?? null);
  });
  $("history-hint").hidden = entries.length > 0;
  list.hidden = entries.length === 0;
}

function create(id) {
  const tile = make("li", {}, make("button", { type: "button" }, make("img", { alt: "", hidden: true }), make("i")));
  tiles.set(id, tile);
  return tile;
}

function update(tile, entry, isShown) {
  const [button] = tile.children;
  const [image] = button.children;
  const phase = phaseOf(entry);
  tile.dataset.phase = phase;
  tile.classList.toggle("is-gone", Boolean(entry.gone));
  const source = entry.thumb ?? entry.live?.preview;
  if (source && image.getAttribute("src") !== source) image.src = source;
  image.hidden = !source;
  button.style.setProperty("--part", progressOf(entry, phase).part ?? 0);
  button.setAttribute("aria-current", String(isShown));
  const prompt = entry.output?.prompt ?? entry.input?.prompt ?? "A request";
  const state = { done: entry.gone ? ", no longer on the server" : "", failed: ", failed" }[phase] ?? ", not done yet";
  button.setAttribute("aria-label", `${prompt}${state}`);
  button.title = prompt.length > 120 ? `${prompt.slice(0, 120)}…` : prompt;
}

/** A thumbnail of an image, to keep. */
export function thumbnail(image, side = 176) {
  const scale = side / Math.min(image.naturalWidth, image.naturalHeight);
  const canvas = make("canvas", {
    width: Math.round(image.naturalWidth * scale),
    height: Math.round(image.naturalHeight * scale),
  });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.8);
}
