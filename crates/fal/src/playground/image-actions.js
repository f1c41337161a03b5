// The buttons of one image of a request.

import { imageUrl } from "./api.js";
import { button, make } from "./dom.js";
import { NETWORKS } from "./networks.js";

/** Buttons for the image at `index`, and a link that downloads it. */
export function imageActions(entry, index, commands) {
  const repeat = entry.output.images.length > 1 ? [button("Repeat alone", () => commands.repeat(entry, index))] : [];
  const served = Object.values(NETWORKS).filter((network) => network.served.isServed);
  const others = served.map((network) => networkButton(network, entry, index, commands));
  const initial = button("Use as initial image", () => commands.startFrom(entry, index));
  return [...repeat, initial, ...others, download(entry, index)];
}

/** It is shown while the form has such a network (result.css): a row of all buttons is longer than a line. */
function networkButton(network, entry, index, commands) {
  const use = button(`Use as ${network.imageLabel.toLowerCase()}`, () => commands.steerBy(network, entry, index));
  use.classList.add(`for-${network.field}`);
  return use;
}

function download({ output }, index) {
  const { url, content_type: type } = output.images[index];
  const kind = { "image/png": "png", "image/webp": "webp" }[type] ?? "jpg";
  const name = `latentd-${output.seed}${index > 0 ? `-${index + 1}` : ""}.${kind}`;
  const label = `Download image ${index + 1}`;
  return make("a", { className: "quiet", href: imageUrl(url), download: name, "aria-label": label }, "Download");
}
