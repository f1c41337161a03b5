// The tabs above the frame, by pointer and by arrow keys.

import { $ } from "./dom.js";

const names = ["image", "gallery", "code", "log"];

let notify;

/** `opened` is called with the view that is opened. */
export function start(opened) {
  notify = opened;
  for (const name of names) {
    $(`tab-${name}`).addEventListener("click", () => open(name));
    $(`tab-${name}`).addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      const next = names[(names.indexOf(name) + by + names.length) % names.length];
      open(next);
      $(`tab-${next}`).focus();
    });
  }
}

/** Shows one tab's view. */
export function open(wanted) {
  for (const name of names) {
    const tab = $(`tab-${name}`);
    tab.setAttribute("aria-selected", String(name === wanted));
    tab.tabIndex = name === wanted ? 0 : -1;
    $(`view-${name}`).hidden = name !== wanted;
  }
  notify(wanted);
}
