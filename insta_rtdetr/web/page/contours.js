// Outlines of masks, smooth at any size.

import {forEachPiece} from "./runs.js";

// Steps to the next corner of a pixel: right, down, left, up.
const STEPS = [[1, 0], [0, 1], [-1, 0], [0, -1]];
const WEIGHTS = [1, 4, 6, 4, 1];  // of a point and its neighbours when outlines are smoothed
const NUM_SMOOTHINGS = 2;
const MAX_DEVIATION = 0.05;  // pixels that a point may be off a straight line to be left out

// The outlines of a mask as a Path2D, in pixels of the image.  runs: of a mask of this height.
export function maskPath(runs, height) {
  const {bitmap, left, top, width} = cropped(runs, height);
  const path = new Path2D();
  for (const outline of trace(bitmap, width)) {
    let points = outline;
    for (let i = 0; i < NUM_SMOOTHINGS; i++) points = smoothed(points);
    simplified(points).forEach(([x, y], index) => index ? path.lineTo(left + x, top + y) : path.moveTo(left + x, top + y));
    path.closePath();
  }
  return path;
}

// The part of the image that holds the mask, row by row.
function cropped(runs, height) {
  let left = Infinity, top = Infinity, right = 0, bottom = 0;
  forEachPiece(runs, height, (column, first, last) => {
    left = Math.min(left, column);
    right = Math.max(right, column + 1);
    top = Math.min(top, first);
    bottom = Math.max(bottom, last);
  });
  const width = Math.max(0, right - left);
  const bitmap = new Uint8Array(width * Math.max(0, bottom - top));
  forEachPiece(runs, height, (column, first, last) => {
    for (let row = first - top; row < last - top; row++) bitmap[row * width + column - left] = 1;
  });
  return {bitmap, left, top, width};
}

// The middles of the pixels' sides along each outline, with the mask to the right.
function trace(bitmap, width) {
  const stride = width + 1, corners = sidesFrom(bitmap, width), outlines = [];
  for (let start = 0; start < corners.length; start++) {
    while (corners[start]) {
      const points = [];
      let at = start, direction = 0;
      do {
        // To the right first: parts that touch at a corner are apart.
        direction = [1, 0, 3, 2].map((turn) => (direction + turn) % 4).find((one) => corners[at] & 1 << one);
        corners[at] &= ~(1 << direction);
        const [x, y] = STEPS[direction];
        points.push([at % stride + x / 2, Math.floor(at / stride) + y / 2]);
        at += x + y * stride;
      } while (at !== start);
      outlines.push(points);
    }
  }
  return outlines;
}

// For each corner of pixels the sides of the mask that begin there, as bits in the order of STEPS.
function sidesFrom(bitmap, width) {
  const stride = width + 1, height = width ? bitmap.length / width : 0;
  const corners = new Uint8Array(stride * (height + 1));
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (!bitmap[at]) continue;
      const corner = y * stride + x;
      if (y === 0 || !bitmap[at - width]) corners[corner] |= 1;
      if (x === width - 1 || !bitmap[at + 1]) corners[corner + 1] |= 2;
      if (y === height - 1 || !bitmap[at + width]) corners[corner + stride + 1] |= 4;
      if (x === 0 || !bitmap[at - 1]) corners[corner + stride] |= 8;
    }
  }
  return corners;
}

function smoothed(points) {
  const count = points.length, reach = (WEIGHTS.length - 1) / 2;
  return points.map((_, index) => {
    let x = 0, y = 0;
    for (let i = -reach; i <= reach; i++) {
      const point = points[(index + i + count) % count], weight = WEIGHTS[i + reach];
      x += weight * point[0];
      y += weight * point[1];
    }
    return [x / 16, y / 16];
  });
}

// Without points that lie on a straight line between the last one that was kept and the next one.
function simplified(points) {
  const kept = [points[0]];
  for (let i = 1; i < points.length - 1; i++) {
    const [x0, y0] = kept[kept.length - 1], [x, y] = points[i], [x1, y1] = points[i + 1];
    const away = Math.abs((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) / Math.hypot(x1 - x0, y1 - y0);
    if (!(away <= MAX_DEVIATION)) kept.push(points[i]);
  }
  return [...kept, points[points.length - 1]];
}
