// The buttons of one image of a request.

import { imageUrl } from "./api.js";
import { button, make } from "./dom.js";

/** Buttons for the image at `index`, and a link that downloads it. */
export function imageActions(entry, index, commands) {
  const repeat = entry.output.images.length > 1 ? [button("Repeat alone", () => commands.repeat(entry, index))] : [];
  return [...repeat, button("Use as initial image", () => commands.startFrom(entry, index)), download(entry, index)];
}

function download({ output }, index) {
  const { url, content_type: type } = output.images[index];
  const kind = { "image/png": "png", "image/webp": "webp" }[type] ?? "jpg";
  const name = `latentd-${output.seed}${index > 0 ? `-${index + 1}` : ""}.${kind}`;
  const label = `Download image ${index + 1}`;
  return make("a", { className: "quiet", href: imageUrl(url), download: name, "aria-label": label }, "Download");
}
