// Labels that hide no object; insta_rtdetr/visualization/labels.py does the same.

import {css, textColor} from "./colors.js";

const FONT_SIZE = 12, HEIGHT = 18, PADDING = 4;  // CSS pixels
const MAX_HIDDEN = 0.2;  // of an object's box, its own or another's
// Among more objects than this, a label may be at most this many times as wide as its object.
const CROWD = 12, MAX_LABEL_TO_BOX = 1.1;
// In a crowd of one class there are labels if this share of the objects has place for a whole one.
const MIN_LABELLED = 0.5;

// objects: {name, classIndex, score, color, box}, boxes in pixels of the canvas; active: one of them, whose label is
// drawn in any case, or null; isEach: whether the others have labels; unit: canvas pixels for one CSS pixel.
export function drawLabels(context, objects, active, isEach, unit) {
  context.font = `600 ${FONT_SIZE * unit}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const {width, height} = context.canvas;
  const seen = objects.filter(({box}) => box[0] < width && box[2] > 0 && box[1] < height && box[3] > 0);
  const placed = active ? [place(context, active, textsOf(active)[0], [], [], unit, true)] : [];
  if (isEach) placed.push(...placeAll(context, seen, active, placed, unit));
  for (const label of placed) drawLabel(context, label, unit);
}

function placeAll(context, objects, active, placed, unit) {
  const isCrowd = objects.length > CROWD;
  const isUniform = isCrowd && objects.every((object) => object.classIndex === objects[0].classIndex);
  const labels = [];
  for (const object of objects) {
    if (object === active) continue;
    const most = isCrowd ? MAX_LABEL_TO_BOX * (object.box[2] - object.box[0]) : Infinity;
    for (const text of isUniform ? textsOf(object).slice(0, 1) : textsOf(object)) {
      if (context.measureText(text).width + 2 * PADDING * unit > most) continue;
      const label = place(context, object, text, [...placed, ...labels], objects, unit, false);
      if (!label) continue;
      labels.push(label);
      break;
    }
  }
  return isUniform && labels.length < MIN_LABELLED * objects.length ? [] : labels;
}

function textsOf({name, score}) {
  const percent = `${Math.floor(score * 100)}%`;
  return [`${name} ${percent}`, percent];
}

// The first place that covers no other label and hides no object: above, in the upper corner, below, beside.
function place(context, object, text, placed, objects, unit, isForced) {
  const width = context.measureText(text).width + 2 * PADDING * unit, height = HEIGHT * unit;
  const [left, top, right, bottom] = object.box, middle = (top + bottom - height) / 2;
  const corners = [
    [left, top - height - 1], [left, top], [left, bottom + 1], [right - width, top - height - 1], [right + 1, middle],
    [left - width - 1, middle],
  ];
  for (const [x, y] of corners) {
    const box = [
      Math.max(0, Math.min(x, context.canvas.width - width)), Math.max(0, Math.min(y, context.canvas.height - height)),
    ];
    box.push(box[0] + width, box[1] + height);
    const isFree = !placed.some((label) => common(box, label.box) > 0)
      && !objects.some((other) => common(box, other.box) > MAX_HIDDEN * Math.max(1, area(other.box)));
    if (isForced || isFree) return {object, text, box};
  }
  return null;
}

function area([left, top, right, bottom]) {
  return (right - left) * (bottom - top);
}

// Area that two boxes have in common.
function common(one, other) {
  const width = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const height = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  return Math.max(0, width) * Math.max(0, height);
}

function drawLabel(context, {object, text, box: [left, top, right, bottom]}, unit) {
  context.fillStyle = css(object.color);
  context.beginPath();
  context.roundRect(left, top, right - left, bottom - top, 3 * unit);
  context.fill();
  context.fillStyle = textColor(object.color);
  context.fillText(text, left + PADDING * unit, (top + bottom) / 2 + 0.5 * unit);
}
