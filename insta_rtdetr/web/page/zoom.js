// Zoom and pan of a canvas: wheel, two fingers, drag, keys and buttons.

const MAX_FACTOR = 32, KEY_RATIO = 1.4, KEY_STEP = 0.15, WHEEL_RATE = 0.0015;
const MIN_DRAG = 4;  // CSS pixels; what moves less is a click

export class Zoom {
  // factor: of enlargement; x, y: where the part that is seen begins, from 0 to 1 of the image.
  factor = 1;
  x = 0;
  y = 0;
  #pointers = new Map();  // id -> [x, y]
  #travelled = 0;

  // onChange: to be called after each change.
  constructor(canvas, onChange) {
    this.canvas = canvas;
    this.onChange = onChange;
    canvas.addEventListener("wheel", (event) => this.#wheel(event), {passive: false});
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.#pointers.delete(event.pointerId));
    }
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  get isZoomed() {
    return this.factor > 1;
  }

  // Whether what ends now was a drag or a pinch, and no click.
  get wasDragged() {
    return this.#travelled > MIN_DRAG;
  }

  // Place of the image, from 0 to 1, that is seen at a place of the canvas, from 0 to 1.
  imagePlace(x, y) {
    return [this.x + x / this.factor, this.y + y / this.factor];
  }

  reset() {
    this.#set(1, 0, 0);
  }

  // Enlarge by a ratio, so that a place of the canvas keeps showing the same place of the image.
  by(ratio, x = 0.5, y = 0.5) {
    const factor = Math.max(1, Math.min(MAX_FACTOR, this.factor * ratio));
    const [imageX, imageY] = this.imagePlace(x, y);
    this.#set(factor, imageX - x / factor, imageY - y / factor);
  }

  // dx, dy: of the canvas, from 0 to 1.
  pan(dx, dy) {
    this.#set(this.factor, this.x - dx / this.factor, this.y - dy / this.factor);
  }

  #set(factor, x, y) {
    const most = 1 - 1 / factor;
    this.factor = factor;
    this.x = Math.max(0, Math.min(most, x));
    this.y = Math.max(0, Math.min(most, y));
    this.canvas.classList.toggle("zoomed", this.isZoomed);
    this.onChange();
  }

  #wheel(event) {
    if (event.deltaY > 0 && !this.isZoomed && !event.ctrlKey) return;  // The page scrolls.
    event.preventDefault();
    const pixels = event.deltaY * [1, 16, 400][event.deltaMode];
    // Browsers send a pinch on a touchpad as small steps of the wheel with Ctrl.
    this.by(Math.exp(-pixels * WHEEL_RATE * (event.ctrlKey ? 6 : 1)), ...this.#place([event.clientX, event.clientY]));
  }

  #down(event) {
    if (!this.#pointers.size) this.#travelled = 0;
    this.#pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.canvas.setPointerCapture(event.pointerId);
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    this.#pointers.set(event.pointerId, now);
    this.#travelled += Math.hypot(now[0] - before[0], now[1] - before[1]);
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const share = 1 / this.#pointers.size;  // The middle of two fingers moves half as far as one of them.
    if (this.#pointers.size === 2) {
      const [other] = [...this.#pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const ratio = distance(now, other) / Math.max(1, distance(before, other));
      this.by(ratio, ...this.#place([(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]));
    }
    if (this.wasDragged) this.pan((now[0] - before[0]) / width * share, (now[1] - before[1]) / height * share);
  }

  #key(event) {
    const steps = {ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};
    const ratios = {"+": KEY_RATIO, "=": KEY_RATIO, "-": 1 / KEY_RATIO};
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in ratios) this.by(ratios[event.key]);
    else if (event.key === "0") this.reset();
    else if (event.key in steps && this.isZoomed) this.pan(...steps[event.key].map((step) => step * KEY_STEP));
    else return;
    event.preventDefault();
  }

  #place([x, y]) {
    const box = this.canvas.getBoundingClientRect();
    return [(x - box.left) / box.width, (y - box.top) / box.height];
  }
}

function distance(one, other) {
  return Math.hypot(one[0] - other[0], one[1] - other[1]);
}
