// Files that are dropped onto the page, or pasted into it.

import { $ } from "./dom.js";

/** `uses` has for each zone of the page, by its `data-drop`, what is done with a file that is dropped there. */
export function start(uses) {
  const overlay = $("drop");
  const hasFile = (event) => event.dataTransfer?.types.includes("Files");
  const zoneOf = (event) => event.target.closest?.("[data-drop]");
  addEventListener("dragenter", (event) => {
    if (hasFile(event)) overlay.hidden = isCovered();
  });
  addEventListener("dragover", (event) => {
    if (!hasFile(event)) return;
    // Without this the browser would leave the page for the file.
    event.preventDefault();
    for (const zone of overlay.children) zone.classList.toggle("is-over", zone === zoneOf(event));
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) overlay.hidden = true;
  });
  addEventListener("drop", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    overlay.hidden = true;
    const [file] = event.dataTransfer.files;
    const zone = zoneOf(event);
    if (file && zone) uses[zone.dataset.drop](file);
  });
  addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
    if (!file || isCovered()) return;
    event.preventDefault();
    uses[event.target.closest?.("[data-paste]")?.dataset.paste ?? "initial"](file);
  });
}

/** Is a dialog above the page? */
const isCovered = () => document.querySelector("dialog[open]") !== null;
