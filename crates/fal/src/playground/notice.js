// Small notices at the bottom of the window, with something to click.

import { $, button, make } from "./dom.js";

/** Long enough to read it and to reach its button. */
const SHOWN_MS = 10_000;

/** Shows a text and buttons, `[label, act]` each, any of which closes it; `closed` is called when it is gone without one. */
export function show(text, actions = [], closed = () => {}) {
  const element = make("div", { className: "notice" }, make("p", {}, text));
  const timer = setTimeout(end, SHOWN_MS);
  for (const [label, act] of actions) element.append(button(label, () => (close(), act())));
  element.append(button("×", end, { "aria-label": "Close this notice" }));
  $("notices").append(element);
  return end;

  function close() {
    clearTimeout(timer);
    element.remove();
  }

  function end() {
    if (!element.isConnected) return;
    close();
    closed();
  }
}
