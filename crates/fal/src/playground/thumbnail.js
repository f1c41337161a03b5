// Thumbnails of images, small enough to keep in this browser.

import { make } from "./dom.js";

/** The thumbnail of the image at a URL, as a data URI; its shorter side has `side` pixels. */
export async function thumbnailOf(url, side = 176) {
  const image = make("img", { src: url });
  await image.decode();
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
