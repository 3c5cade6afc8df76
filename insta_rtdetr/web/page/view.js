// Draws an image and its objects on a canvas of any size.

import {css, textColor} from "./colors.js";
import {OwnerMap} from "./masks.js";

const FONT_SIZE = 12;  // CSS pixels
const CROWD = 12;  // objects
// Width to width: of the whole label, and of the score alone.
const MAX_LABEL_TO_BOX = 1.2, MAX_SCORE_TO_BOX = 1.6;

export class View {
  // image: decoded <img>; objects: {name, score, box [left, top, right, bottom], color, runs}, sorted by score.
  constructor(image, objects) {
    this.image = image;
    this.objects = objects;
    this.width = image.naturalWidth;
    this.height = image.naturalHeight;
    this.owners = new OwnerMap(this.width, this.height);
    this.masks = document.createElement("canvas");
    this.masks.width = this.owners.width;
    this.masks.height = this.owners.height;
    this.scaled = Object.assign(document.createElement("canvas"), {width: 0, height: 0});
    this.maskImage = new ImageData(this.owners.width, this.owners.height);
    this.coloredCount = null;  // objects that the masks show; null if all of them are to be made anew
  }

  // To be called when classes are hidden or shown: isWanted(object).
  assignOwners(isWanted) {
    this.owners.assign(this.objects, isWanted);
    this.coloredCount = null;
  }

  // To be called when the number of objects above the threshold changes, or the owners.
  colorMasks(count) {
    const before = this.coloredCount, {owners, maskImage} = this;
    const regions = before === null ? [[0, 0, owners.width, owners.height]]
      : owners.regionsOf(Math.min(before, count), Math.max(before, count));
    owners.paint(maskImage, count, this.objects.map((object) => object.color), regions);
    const context = this.masks.getContext("2d");
    for (const [left, top, right, bottom] of regions) {
      context.putImageData(maskImage, 0, 0, left, top, right - left, bottom - top);
    }
    this.coloredCount = count;
  }

  // shown: the objects; active: one of them to stand out, or null; scale: canvas pixels for one of the image;
  // unit: canvas pixels for one CSS pixel.
  draw(canvas, shown, active, show, scale, unit) {
    const width = Math.max(1, Math.round(this.width * scale)), height = Math.max(1, Math.round(this.height * scale));
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const context = canvas.getContext("2d");
    context.drawImage(this.#scaledImage(width, height), 0, 0);
    if (show.masks) context.drawImage(this.masks, 0, 0, width, height);
    // The best one is drawn last, over the others.
    if (show.boxes) for (const object of shown.toReversed()) drawBox(context, object, scale, 1.5 * unit);
    if (active) drawBox(context, active, scale, 4 * unit);
    if (show.labels || active) drawLabels(context, show.labels ? shown : [], active, scale, unit);
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

function drawBox(context, object, scale, lineWidth) {
  const [left, top, right, bottom] = object.box.map((value) => value * scale);
  context.lineWidth = lineWidth;
  context.strokeStyle = css(object.color);
  context.strokeRect(left, top, right - left, bottom - top);
}

// The active one's label first, then by score; those for which there is no space are left out.  Among many objects a
// label that is far wider than its box is the score alone, or nothing, so that it does not hide the neighbours.
function drawLabels(context, shown, active, scale, unit) {
  context.font = `600 ${FONT_SIZE * unit}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const isCrowded = shown.length > CROWD;
  const placed = [];
  const widths = new Map();
  for (const object of active ? [active, ...shown.filter((other) => other !== active)] : shown) {
    const percent = `${Math.floor(object.score * 100)}%`;
    const space = object === active || !isCrowded ? Infinity : (object.box[2] - object.box[0]) * scale;
    for (const [text, most] of [[`${object.name} ${percent}`, MAX_LABEL_TO_BOX], [percent, MAX_SCORE_TO_BOX]]) {
      if (!widths.has(text)) widths.set(text, context.measureText(text).width + 8 * unit);
      if (widths.get(text) > most * space) continue;
      const label = place(object.box.map((value) => value * scale), widths.get(text), 18 * unit, context.canvas, placed);
      if (!label) continue;
      placed.push(label);
      drawLabel(context, object, text, label, unit);
      break;
    }
  }
}

function place(box, width, height, canvas, placed) {
  const [left, top, right, bottom] = box;
  const corners = [
    [left, top - height], [left, top], [right - width, top - height], [right - width, bottom - height],
    [left, bottom - height], [left, bottom],
  ];
  for (const [x, y] of corners) {
    const label = {
      x: Math.max(0, Math.min(x, canvas.width - width)), y: Math.max(0, Math.min(y, canvas.height - height)),
      width, height,
    };
    if (!placed.some((other) => overlap(label, other))) return label;
  }
  return null;
}

function overlap(one, other) {
  return one.x < other.x + other.width && other.x < one.x + one.width
    && one.y < other.y + other.height && other.y < one.y + one.height;
}

function drawLabel(context, object, text, label, unit) {
  context.fillStyle = css(object.color);
  context.fillRect(label.x, label.y, label.width, label.height);
  context.fillStyle = textColor(object.color);
  context.fillText(text, label.x + 4 * unit, label.y + label.height / 2 + 0.5 * unit);
}
