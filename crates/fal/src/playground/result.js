// The result view: one request from submit to image, and the actions on it.

import { imageUrl } from "./api.js";
import { PROMPTS } from "./builtin.js";
import { $, button, make } from "./dom.js";
import { imageActions } from "./image-actions.js";
import { explain, notesOf, phaseOf, progressOf } from "./words.js";
import { pixels } from "./limits.js";

/** What is in the frame: the request and how far it is, so that it is rendered anew only when that changes. */
let rendered = "";

/**
 * Renders a request, or nothing yet. `draft` has the `size` and `count` of the images that the form asks for, and whether
 * they would be the first, `isFirst`; `commands` are those of the page.
 */
export function render(entry, draft, commands) {
  const phase = phaseOf(entry);
  const frame = $("frame");
  frame.dataset.phase = phase;
  shape(frame, entry, draft);
  const now = `${entry?.id} ${phase} ${entry?.gone} ${entry?.error?.status} ${entry?.favourite} ${!entry && draft.isFirst}`;
  if (now !== rendered) {
    rendered = now;
    $("images").replaceChildren(...imageFigures(entry, phase, commands));
    $("words").replaceChildren(...words(entry, phase, draft, commands));
    $("actions").replaceChildren(...actions(entry, phase, commands));
    announce(entry, phase);
  }
  if (phase === "generating") preview(entry.live.preview);
  progress(entry, phase);
  notes(entry);
  log(entry);
}

/** Gives the frame the shape of the images, so that nothing jumps when they come. */
function shape(frame, entry, draft) {
  const [first] = entry?.output?.images ?? [];
  const asked = entry ? (entry.size ?? pixels(entry.input?.image_size ?? "landscape_4_3")) : draft.size;
  const [width, height] = first ? [first.width, first.height] : asked;
  const count = entry?.output?.images.length ?? (entry ? entry.input?.num_images : draft.count) ?? 1;
  const columns = count === 1 || (count === 2 && width > height) ? 1 : 2;
  const rows = Math.ceil(count / columns);
  const ratio = (columns * width) / (rows * height);
  frame.style.setProperty("--ratio", Number.isFinite(ratio) && ratio > 0 ? Math.min(4, Math.max(0.25, ratio)) : 4 / 3);
  frame.style.setProperty("--columns", columns);
  frame.style.setProperty("--rows", rows);
}

function imageFigures(entry, phase, commands) {
  // The server shows how the first image is coming along.
  if (phase === "generating") return [make("figure", {}, make("img", { id: "preview", alt: "", hidden: true }))];
  if (phase !== "done") return [];
  return entry.output.images.map((image, index) => imageFigure(entry, image, index, commands));
}

function imageFigure(entry, image, index, commands) {
  const flagged = entry.output.has_nsfw_concepts?.[index];
  const element = make("img", { alt: entry.output.prompt, width: image.width, height: image.height });
  const several = entry.output.images.length > 1;
  const label = several ? `Full size: image ${index + 1}` : "Full size";
  const opener = make("button", { type: "button", className: "opener", "aria-label": label, onclick: () => commands.view(entry, index) }, element);
  const figure = make("figure", {}, opener);
  if (flagged) figure.append(make("figcaption", {}, "Blackened by the safety checker"));
  // What was seen so far stays until the image itself is there.
  const seen = index === 0 && (entry.thumb ?? entry.live?.preview);
  if (seen) figure.style.backgroundImage = `url("${seen}")`;
  figure.classList.toggle("is-gone", Boolean(entry.gone));
  opener.hidden = Boolean(entry.gone);
  if (entry.gone) return figure;
  if (several) figure.append(make("div", { className: "image-actions" }, ...imageActions(entry, index, commands)));
  element.addEventListener("error", () => {
    opener.hidden = true;
    commands.checkFiles(entry);
  });
  element.src = imageUrl(image.url);
  return figure;
}

/** The image as far as it is; the first one fades in, later ones replace it. */
function preview(url) {
  const element = $("preview");
  if (!url || !element || element.src === url) return;
  element.src = url;
  element.hidden = false;
}

function words(entry, phase, draft, commands) {
  if (phase === "empty") {
    const examples = PROMPTS.slice(0, 3).map((prompt) => make("li", {}, button(prompt, () => commands.usePrompt(prompt))));
    const title = draft.isFirst ? "Nothing generated yet" : "No image chosen";
    const text = draft.isFirst
      ? "Write a prompt, or start with one of these."
      : "Choose one of your images below, write a prompt, or start with one of these.";
    return [make("p", { className: "title" }, title), make("p", {}, text), make("ul", { className: "examples" }, ...examples)];
  }
  if (phase === "failed") {
    const { title, text, again } = explain(entry.error);
    const retry = again && entry.input ? [button("Try again", () => commands.again(entry))] : [];
    return [make("p", { className: "title" }, title), make("p", {}, text), ...retry];
  }
  if (phase === "done" && entry.gone) return [make("p", { className: "gone" }, "The server no longer has this image")];
  return [];
}

function actions(entry, phase, commands) {
  if (phase === "waiting" || phase === "generating") return [button("Cancel", commands.cancel, { title: "Escape", "aria-keyshortcuts": "Escape" })];
  if (phase !== "done") return [];
  const single = entry.output.images.length === 1 && !entry.gone ? imageActions(entry, 0, commands) : [];
  const seed = button("Use seed", () => commands.useSeed(entry.output.seed));
  const favourite = button("Favourite", () => commands.toggleFavourite(entry), { "aria-pressed": String(Boolean(entry.favourite)) });
  return [...single, seed, favourite, button("Delete", () => commands.remove([entry]))];
}

function progress(entry, phase) {
  const { text, part } = progressOf(entry, phase);
  const bar = $("bar");
  $("progress").textContent = text;
  bar.dataset.state = phase === "generating" ? "moving" : phase === "waiting" || phase === "sending" ? "unsure" : "still";
  bar.style.setProperty("--part", part ?? 0);
  if (part === undefined) bar.removeAttribute("aria-valuenow");
  else bar.setAttribute("aria-valuenow", Math.round(part * 100));
  announceProgress(part);
}

let quarters = 0;

/** Announces the phase to screen readers. */
function announce(entry, phase) {
  quarters = 0;
  const announcement = {
    empty: "",
    sending: "Sending",
    waiting: "Waiting in the queue",
    generating: "Generating",
    done: "The image is done",
    failed: phase === "failed" ? explain(entry.error).title : "",
  };
  $("announce").textContent = announcement[phase];
}

/** Not every step: one word for each quarter. */
function announceProgress(part = 0) {
  const now = Math.floor(part * 4);
  if (now > quarters && now < 4) $("announce").textContent = `${now * 25} percent`;
  quarters = now;
}

/** What the server says about the request, such as words that the model does not know. */
function notes(entry) {
  const texts = notesOf(entry);
  const list = $("notes");
  const isShown = texts.length === list.children.length && texts.every((text, at) => list.children[at].textContent === text);
  if (!isShown) list.replaceChildren(...texts.map((text) => make("li", {}, text)));
}

function log(entry) {
  const lines = entry?.live?.logs ?? [];
  const list = $("log");
  if (lines.length < list.children.length || list.dataset.id !== (entry?.id ?? "")) list.replaceChildren();
  list.dataset.id = entry?.id ?? "";
  for (const { timestamp, level, message } of lines.slice(list.children.length)) {
    const time = new Date(timestamp).toLocaleTimeString([], { hour12: false });
    list.append(make("li", { "data-level": level }, make("time", { dateTime: timestamp }, time), message));
  }
}
