// Zoom and pan of an element in the middle of a stage: by wheel, drag, pinch and double click, and by functions for keys.

const MAX = 32;
const STEP = 1.25;

/** Makes `content` zoomable; `changed(scale)` is called with its scale, which is 1 where it just fits. */
export function zoomable(stage, content, changed) {
  let scale = 1;
  /** How far the middle of the content is from that of the stage. */
  let [x, y] = [0, 0];
  const pointers = new Map();

  function apply() {
    const [wide, high] = [content.offsetWidth * scale - stage.clientWidth, content.offsetHeight * scale - stage.clientHeight];
    x = clamp(x, wide / 2);
    y = clamp(y, high / 2);
    content.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    stage.classList.toggle("is-zoomed", scale > 1);
    changed(scale);
  }

  /** Zooms so that what is at a point of the stage stays there. */
  function zoomTo(wanted, [pointX, pointY] = [0, 0]) {
    const next = Math.min(MAX, Math.max(1, wanted));
    x = pointX - ((pointX - x) * next) / scale;
    y = pointY - ((pointY - y) * next) / scale;
    scale = next;
    apply();
  }

  function fromMiddle({ clientX, clientY }) {
    const { left, top, width, height } = stage.getBoundingClientRect();
    return [clientX - left - width / 2, clientY - top - height / 2];
  }

  function move(event) {
    const before = [...pointers.values()];
    if (!pointers.has(event.pointerId)) return;
    pointers.set(event.pointerId, fromMiddle(event));
    const after = [...pointers.values()];
    x += middle(after)[0] - middle(before)[0];
    y += middle(after)[1] - middle(before)[1];
    zoomTo(pointers.size > 1 ? (scale * spread(after)) / spread(before) : scale, middle(after));
  }

  const release = (event) => pointers.delete(event.pointerId);
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest("button, a")) return;
    pointers.set(event.pointerId, fromMiddle(event));
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", move);
  stage.addEventListener("pointerup", release);
  stage.addEventListener("pointercancel", release);
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomTo(scale * Math.exp(-event.deltaY / 400), fromMiddle(event));
  });
  stage.addEventListener("dblclick", (event) => {
    if (!event.target.closest("button, a")) zoomTo(scale > 1 ? 1 : 3, fromMiddle(event));
  });
  new ResizeObserver(apply).observe(stage);

  return {
    in: () => zoomTo(scale * STEP),
    out: () => zoomTo(scale / STEP),
    to: (wanted) => zoomTo(wanted),
    isZoomed: () => scale > 1,
    pan(byX, byY) {
      x += byX;
      y += byY;
      apply();
    },
  };
}

const clamp = (value, most) => Math.min(Math.max(0, most), Math.max(-Math.max(0, most), value));
const middle = (points) => [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
const spread = ([first, second]) => Math.max(1, Math.hypot(first[0] - second[0], first[1] - second[1]));
