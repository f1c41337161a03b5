// The dialog in which a mask is painted over the initial image: by mouse, touch and pen, or with keys alone.

import { $, choice } from "./dom.js";
import * as notice from "./notice.js";
import { coverage, fileOf, fit, paint } from "./mask-painting.js";

/** How far an arrow key moves the brush, in parts of its width; with Shift finely. */
const STEP = 0.5;
const FINE_STEP = 0.1;

const dialog = $("mask-editor");
const canvas = $("mask-canvas");
let tool;
let painting;
/** What is edited: the arguments of `open`. */
let given;
/** Where the brush is, in pixels of the mask, and whether it paints: by a pointer, or by keys. */
let brush = [0, 0];
let [pointer, isDown] = [null, false];
let withdraw = () => {};

export function start() {
  tool = choice($("mask-tool"), "mask-tool", [["paint", "Paint"], ["erase", "Erase"]]);
  const stage = $("mask-stage");
  stage.addEventListener("pointerdown", pressed);
  stage.addEventListener("pointermove", moved);
  for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, released);
  stage.addEventListener("pointerleave", showBrush);
  canvas.addEventListener("focus", showBrush);
  canvas.addEventListener("blur", lift);
  $("mask-tool").addEventListener("change", lift);
  $("mask-size").addEventListener("input", showBrush);
  for (const name of ["undo", "redo", "invert", "clear"]) $(`mask-${name}`).addEventListener("click", () => act(name));
  $("mask-use").addEventListener("click", done);
  $("mask-cancel").addEventListener("click", cancelled);
  dialog.addEventListener("cancel", cancelled);
  dialog.addEventListener("keydown", keyed);
  new ResizeObserver(showBrush).observe(stage);
}

/**
 * Opens the dialog. `image` has the `source`, `width` and `height` of the image, and `picture` is the mask so far, or `null`;
 * `used(file)` is called with the mask, `null` where nothing is masked.
 */
export function open(image, picture, used) {
  given = { image, picture, used };
  $("mask-image").src = image.source;
  $("mask-pane").style.setProperty("--ratio", image.width / image.height);
  fit(canvas, image);
  dialog.showModal();
  painting = paint(canvas, picture);
  tool.set("paint");
  brush = [canvas.width / 2, canvas.height / 2];
  [pointer, isDown] = [null, false];
  changed();
  canvas.focus();
}

/** Takes the mask. */
async function done() {
  const file = coverage(canvas) > 0 ? await fileOf(canvas) : null;
  dialog.close();
  given.used(file);
}

/** Leaves the mask as it was before, with a way back to what was painted. */
function cancelled() {
  const kept = painting;
  dialog.close();
  if (!kept.canUndo()) return;
  const back = () => {
    open(given.image, given.picture, given.used);
    painting = kept;
    painting.repeat();
    changed();
  };
  withdraw = notice.show("The mask is as it was before.", [["Bring the changes back", back]]);
}

/** What was painted on another image or mask does not come back. */
export const forget = () => withdraw();

/** Width of the brush in pixels of the mask. */
const width = () => Math.max(1, ($("mask-size").value / 100) * Math.max(canvas.width, canvas.height));

/** Undoes, repeats, inverts or clears; a stroke that is being drawn ends. */
function act(name) {
  [pointer, isDown] = [null, false];
  painting[name]();
  changed();
}

/** Lifts the brush that keys lowered. */
function lift() {
  isDown = false;
  showBrush();
}

/** Shows what follows from the painting. */
function changed() {
  const part = coverage(canvas);
  const focused = document.activeElement;
  $("mask-coverage").textContent = part === 0 ? "Nothing is masked yet" : `${percent(part)} is generated anew`;
  $("mask-undo").disabled = !painting.canUndo();
  $("mask-redo").disabled = !painting.canRedo();
  // A button that is disabled while it has the focus would leave the keys without a target.
  if (dialog.contains(focused) && focused.disabled) canvas.focus();
  showBrush();
}

/** A part of the image, for people. */
export const percent = (part) => (part > 0 && part < 0.01 ? "Less than 1 %" : `${Math.round(part * 100)} %`);

/** Shows where the brush is, and how large. */
function showBrush() {
  const ring = $("mask-ring");
  const isKeyed = document.activeElement === canvas && canvas.matches(":focus-visible");
  ring.hidden = pointer === null && !isKeyed;
  ring.classList.toggle("is-down", isDown);
  ring.style.left = `${(100 * brush[0]) / canvas.width}%`;
  ring.style.top = `${(100 * brush[1]) / canvas.height}%`;
  ring.style.width = `${(100 * width()) / canvas.width}%`;
  $("mask-size-words").textContent = `${Math.round(width())} px`;
}

/** A point of the window in pixels of the mask. */
function pointOf({ clientX, clientY }) {
  const { left, top, width: wide, height: high } = canvas.getBoundingClientRect();
  return [((clientX - left) / wide) * canvas.width, ((clientY - top) / high) * canvas.height];
}

function pressed(event) {
  if (event.button !== 0 || pointer !== null) return;
  event.preventDefault();
  canvas.focus();
  isDown = false;
  pointer = event.pointerId;
  $("mask-stage").setPointerCapture(pointer);
  brush = pointOf(event);
  painting.begin(brush, width(), tool.get() === "erase");
  showBrush();
}

function moved(event) {
  if (pointer !== null && event.pointerId !== pointer) return;
  for (const each of pointer === null ? [event] : event.getCoalescedEvents()) {
    brush = pointOf(each);
    if (pointer !== null) painting.extend(brush);
  }
  showBrush();
  if (event.pointerType === "mouse") $("mask-ring").hidden = false;
}

function released(event) {
  if (event.pointerId !== pointer) return;
  pointer = null;
  changed();
}

function keyed(event) {
  const isCommand = event.ctrlKey || event.metaKey;
  const letter = event.key.toLowerCase();
  if (isCommand && letter === "z") run(event.shiftKey ? "redo" : "undo");
  else if (isCommand && letter === "y") run("redo");
  else if (isCommand || event.altKey) return;
  else if (letter === "b" || letter === "e") take(letter === "b" ? "paint" : "erase");
  else if (letter === "i") act("invert");
  else if (event.key === "[" || event.key === "]") resize(event.key === "]" ? 1 : -1);
  else if (event.target === canvas) return brushed(event);
  else return;
  event.preventDefault();
}

function run(name) {
  if (name === "undo" ? painting.canUndo() : painting.canRedo()) act(name);
}

function take(name) {
  tool.set(name);
  lift();
}

function resize(by) {
  $("mask-size").value = Number($("mask-size").value) + by;
  showBrush();
}

/** Moves the brush by an arrow key, and lowers or lifts it by Space. */
function brushed(event) {
  const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (event.key === " ") {
    isDown = !isDown;
    if (isDown) painting.begin(brush, width(), tool.get() === "erase");
  } else if (arrow) {
    const far = Math.max(1, width() * (event.shiftKey ? FINE_STEP : STEP));
    const within = (value, most) => Math.min(most, Math.max(0, value));
    brush = [within(brush[0] + arrow[0] * far, canvas.width), within(brush[1] + arrow[1] * far, canvas.height)];
    if (isDown) painting.extend(brush);
  } else {
    return;
  }
  event.preventDefault();
  changed();
}
