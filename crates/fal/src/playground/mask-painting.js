// A mask on a canvas, which is opaque where the image is generated anew: strokes, inversions and files, which can be undone.

/** Of an image the mask is painted in as many pixels as it has, up to this side; the server stretches it. */
const MAX_SIDE = 2_048;
/** Grey levels from which the server takes a pixel of a mask as white. */
const WHITE = 128;

/** Makes `canvas` as large as a mask of an image; `side` limits it. */
export function fit(canvas, { width, height }, side = MAX_SIDE) {
  const scale = Math.min(1, side / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
}

/** Draws a mask's file on a canvas in its colour, transparent where the mask is black. */
export function draw(canvas, picture) {
  const context = contextOf(canvas);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = image;
  const [red, green, blue] = colorOf(canvas);
  for (let at = 0; at < data.length; at += 4) {
    const grey = 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
    data.set([red, green, blue, (grey * data[at + 3]) / 255 < WHITE ? 0 : 255], at);
  }
  context.putImageData(image, 0, 0);
}

/** Which part of a canvas is masked, from 0 to 1. */
export function coverage(canvas) {
  const { data } = contextOf(canvas).getImageData(0, 0, canvas.width, canvas.height);
  let masked = 0;
  for (let at = 3; at < data.length; at += 4) masked += data[at] < WHITE ? 0 : 1;
  return (4 * masked) / data.length;
}

/** The mask as a file: white on black. */
export async function fileOf(canvas) {
  const { width, height } = canvas;
  const whole = new OffscreenCanvas(width, height);
  const context = whole.getContext("2d");
  context.drawImage(canvas, 0, 0);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  return new File([await whole.convertToBlob({ type: "image/png" })], "mask.png", { type: "image/png" });
}

/** Begins a painting on a canvas: on a mask's file, if there is one. */
export function paint(canvas, picture) {
  const context = contextOf(canvas);
  if (picture) draw(canvas, picture);
  const first = context.getImageData(0, 0, canvas.width, canvas.height);
  /** What was done, and what was undone of it, the last first. */
  let [done, undone] = [[], []];

  function apply({ kind, erases, width, points }) {
    const { width: wide, height: high } = canvas;
    context.fillStyle = context.strokeStyle = `rgb(${colorOf(canvas).join(" ")})`;
    if (kind === "clear") context.clearRect(0, 0, wide, high);
    if (kind === "invert") {
      context.globalCompositeOperation = "source-out";
      context.fillRect(0, 0, wide, high);
    }
    if (kind === "stroke") {
      context.globalCompositeOperation = erases ? "destination-out" : "source-over";
      context.lineCap = "round";
      context.lineWidth = width;
      for (let at = 0; at < points.length; at += 1) segment(points[Math.max(0, at - 1)], points[at]);
    }
    context.globalCompositeOperation = "source-over";
  }

  function segment([fromX, fromY], [toX, toY]) {
    context.beginPath();
    // A line of no length has no ends everywhere.
    if (fromX === toX && fromY === toY) {
      context.arc(toX, toY, context.lineWidth / 2, 0, 2 * Math.PI);
      return context.fill();
    }
    context.moveTo(fromX, fromY);
    context.lineTo(toX, toY);
    context.stroke();
  }

  /** Draws all of it, also on a canvas that was emptied. */
  function repeat() {
    context.putImageData(first, 0, 0);
    done.forEach(apply);
  }

  function add(operation) {
    done.push(operation);
    undone = [];
    apply(operation);
  }

  return {
    /** Begins a stroke of a width at a point. */
    begin: (point, width, erases) => add({ kind: "stroke", erases, width, points: [point] }),
    /** Goes on with the last stroke. */
    extend(point) {
      const stroke = done.at(-1);
      apply({ ...stroke, points: [stroke.points.at(-1), point] });
      stroke.points.push(point);
    },
    invert: () => add({ kind: "invert" }),
    clear: () => add({ kind: "clear" }),
    undo() {
      undone.push(...done.splice(-1));
      repeat();
    },
    redo() {
      const [next] = undone.splice(-1);
      if (!next) return;
      done.push(next);
      apply(next);
    },
    repeat,
    canUndo: () => done.length > 0,
    canRedo: () => undone.length > 0,
  };
}

/** Pixels are read at every change, so the canvas is kept where that is cheap. */
const contextOf = (canvas) => canvas.getContext("2d", { willReadFrequently: true });

/** The colour in which a mask is shown, of the canvas's style. */
const colorOf = (canvas) => getComputedStyle(canvas).color.match(/\d+/g).slice(0, 3).map(Number);
