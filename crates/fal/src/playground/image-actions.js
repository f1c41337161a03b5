// The buttons of one image of a request.

import { imageUrl } from "./api.js";
import { button, make } from "./dom.js";
import { CONTROLNET } from "./limits.js";

/** Buttons for the image at `index`, and a link that downloads it. */
export function imageActions(entry, index, commands) {
  const repeat = entry.output.images.length > 1 ? [button("Repeat alone", () => commands.repeat(entry, index))] : [];
  const control = CONTROLNET.isServed ? [controlButton(entry, index, commands)] : [];
  const initial = button("Use as initial image", () => commands.startFrom(entry, index));
  return [...repeat, initial, ...control, download(entry, index)];
}

/** It is shown while the form has a ControlNet (result.css): a row of all buttons is longer than a line. */
function controlButton(entry, index, commands) {
  const control = button("Use as control image", () => commands.controlBy(entry, index));
  control.classList.add("for-controlnet");
  return control;
}

function download({ output }, index) {
  const { url, content_type: type } = output.images[index];
  const kind = { "image/png": "png", "image/webp": "webp" }[type] ?? "jpg";
  const name = `latentd-${output.seed}${index > 0 ? `-${index + 1}` : ""}.${kind}`;
  const label = `Download image ${index + 1}`;
  return make("a", { className: "quiet", href: imageUrl(url), download: name, "aria-label": label }, "Download");
}
