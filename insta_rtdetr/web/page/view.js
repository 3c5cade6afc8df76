// Draws an image and its objects on a canvas of any size.

import {css} from "./colors.js";
import {maskPath} from "./contours.js";
import {drawLabels} from "./labels.js";
import {OwnerMap} from "./owners.js";

const OPACITY = 0.42, ACTIVE_OPACITY = 0.2;
const LINE = 1.6, ACTIVE_LINE = 3;  // CSS pixels

export class View {
  // image: decoded <img>; objects: {name, score, classIndex, box [left, top, right, bottom], color, runs}, by score.
  constructor(image, objects) {
    this.image = image;
    this.objects = objects;
    this.width = image.naturalWidth;
    this.height = image.naturalHeight;
    this.owners = new OwnerMap(this.width, this.height);
    this.scaled = Object.assign(document.createElement("canvas"), {width: 0, height: 0});
  }

  // To be called when classes are hidden or shown: isWanted(object).
  assignOwners(isWanted) {
    this.owners.assign(this.objects, isWanted);
  }

  // shown: the objects; active: one of them to stand out, or null; show: the parts; scale: canvas pixels for one of the
  // image when the whole of it is seen; unit: canvas pixels for one CSS pixel; zoom: {factor, x, y}, see zoom.js.
  draw(canvas, shown, active, show, scale, unit, zoom = {factor: 1, x: 0, y: 0}) {
    const width = Math.max(1, Math.round(this.width * scale)), height = Math.max(1, Math.round(this.height * scale));
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const context = canvas.getContext("2d");
    this.#drawImage(context, zoom);
    const total = scale * zoom.factor, [x, y] = [zoom.x * this.width * total, zoom.y * this.height * total];
    context.setTransform(total, 0, 0, total, -x, -y);
    context.lineJoin = "round";
    // The best one is drawn last, over the others.
    for (const object of shown.toReversed()) {
      if (show.masks && object.runs) drawMask(context, object, this.height, OPACITY, LINE * unit / total);
      if (show.boxes || !object.runs) drawBox(context, object, LINE * unit / total);
    }
    if (active?.runs) drawMask(context, active, this.height, ACTIVE_OPACITY, ACTIVE_LINE * unit / total);
    else if (active) drawBox(context, active, ACTIVE_LINE * unit / total);
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (!show.labels && !active) return;
    const moved = (object) => Object.assign(Object.create(object), {
      box: object.box.map((value, index) => value * total - (index % 2 ? y : x)),
    });
    const inView = shown.map(moved);
    drawLabels(context, inView, inView[shown.indexOf(active)] ?? null, show.labels, unit);
  }

  #drawImage(context, {factor, x, y}) {
    const {width, height} = context.canvas;
    if (factor === 1) {
      context.drawImage(this.#scaledImage(width, height), 0, 0);
    } else {
      const [left, top] = [x * this.width, y * this.height];
      context.drawImage(this.image, left, top, this.width / factor, this.height / factor, 0, 0, width, height);
    }
  }

  // Resized well once for each size, because that takes long.
  #scaledImage(width, height) {
    if (this.scaled.width !== width || this.scaled.height !== height) {
      Object.assign(this.scaled, {width, height});
      const context = this.scaled.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(this.image, 0, 0, width, height);
    }
    return this.scaled;
  }
}

// lineWidth: in pixels of the image.
function drawMask(context, object, height, opacity, lineWidth) {
  object.path ??= maskPath(object.runs, height);
  context.fillStyle = context.strokeStyle = css(object.color);
  context.globalAlpha = opacity;
  context.fill(object.path, "evenodd");
  context.globalAlpha = 1;
  context.lineWidth = lineWidth;
  context.stroke(object.path);
}

function drawBox(context, object, lineWidth) {
  const [left, top, right, bottom] = object.box;
  context.lineWidth = lineWidth;
  context.strokeStyle = css(object.color);
  context.strokeRect(left, top, right - left, bottom - top);
}
