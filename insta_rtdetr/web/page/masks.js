// COCO's run-length code, and which object each pixel of the view shows.

const NOBODY = 0;  // the object of index i is i + 1
// Pixels of the masks' view: enough for any screen, few enough to be coloured anew at each step of the slider.
const MAX_VIEW_PIXELS = 1.5e6;

// Lengths of the runs, column by column, background first.  Each number is a varint of 5-bit groups, from the third
// one on the difference to the last but one (pycocotools' rleFrString).
export function decodeRuns(counts) {
  const runs = [];
  for (let at = 0; at < counts.length;) {
    let value = 0, shift = 0, group;
    do {
      group = counts.charCodeAt(at++) - 48;
      value |= (group & 31) << shift;
      shift += 5;
    } while (group & 32);
    if (group & 16) value |= -1 << shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}

export class OwnerMap {
  // A pixel belongs to the best object that covers it.  Objects are sorted by score, so a threshold, which leaves the
  // first ones, changes no owner: the slider only decides who is coloured.
  constructor(width, height) {
    const scale = Math.min(1, Math.sqrt(MAX_VIEW_PIXELS / (width * height)));
    this.width = Math.max(1, Math.round(width * scale));
    this.height = Math.max(1, Math.round(height * scale));
    this.sourceHeight = height;
    this.firstColumn = firstViewIndices(width, this.width);
    this.firstRow = firstViewIndices(height, this.height);
    this.owners = new Uint16Array(this.width * this.height);  // column by column, as the runs are
    this.codes = new Uint16Array(this.width * this.height);  // row by row: twice the owner, plus 1 on its border
    this.bounds = [];  // of each object: left, top, right, bottom
  }

  // objects: sorted by score, `runs` of each (null if it has no mask); isWanted(object): whether its class is shown.
  assign(objects, isWanted) {
    this.owners.fill(NOBODY);
    this.bounds = objects.map(() => [this.width, this.height, 0, 0]);
    for (let i = objects.length - 1; i >= 0; i--) {
      if (objects[i].runs && isWanted(objects[i])) this.#fill(objects[i].runs, i + 1);
    }
    this.#findBorders();
  }

  #fill(runs, owner) {
    let start = 0;
    for (let i = 0; i < runs.length; i++) {
      if (i % 2) this.#fillRun(start, start + runs[i], owner);
      start += runs[i];
    }
  }

  #fillRun(start, end, owner) {
    const {sourceHeight, firstColumn, firstRow, height} = this;
    while (start < end) {
      const x = Math.floor(start / sourceHeight);
      const columnStart = x * sourceHeight, columnEnd = Math.min(end, columnStart + sourceHeight);
      const viewX = firstColumn[x];
      if (viewX < firstColumn[x + 1]) {
        const top = firstRow[start - columnStart], bottom = firstRow[columnEnd - columnStart];
        this.owners.fill(owner, viewX * height + top, viewX * height + bottom);
        const bounds = this.bounds[owner - 1];
        bounds[0] = Math.min(bounds[0], viewX);
        bounds[1] = Math.min(bounds[1], top);
        bounds[2] = Math.max(bounds[2], viewX + 1);
        bounds[3] = Math.max(bounds[3], bottom);
      }
      start = columnEnd;
    }
  }

  // Index of the object at a place, given as fractions of the image's sides; -1 if there is none.
  at(x, y) {
    const column = Math.floor(x * this.width), row = Math.floor(y * this.height);
    if (column < 0 || row < 0 || column >= this.width || row >= this.height) return -1;
    return this.owners[column * this.height + row] - 1;
  }

  #findBorders() {
    const {width, height, owners, codes} = this;
    for (let x = 0, at = 0; x < width; x++) {
      for (let y = 0; y < height; y++, at++) {
        const owner = owners[at];
        const isBorder = (x > 0 && owners[at - height] !== owner) || (x + 1 < width && owners[at + height] !== owner)
          || (y > 0 && owners[at - 1] !== owner) || (y + 1 < height && owners[at + 1] !== owner);
        codes[y * width + x] = 2 * owner + isBorder;
      }
    }
  }

  // Where it makes a difference whether the objects from one index to another are coloured.
  regionsOf(first, afterLast) {
    const regions = this.bounds.slice(first, afterLast).filter(([left, top, right, bottom]) => left < right && top < bottom);
    const pixels = regions.reduce((sum, [left, top, right, bottom]) => sum + (right - left) * (bottom - top), 0);
    return pixels < this.width * this.height ? regions : [[0, 0, this.width, this.height]];
  }

  // Colour the first `count` objects.  colors: [red, green, blue] of each; image: ImageData of the view's size;
  // regions: where, each left, top, right, bottom.
  paint(image, count, colors, regions) {
    const table = new Uint32Array(2 * (colors.length + 1));  // 0, nothing, for all others
    for (let i = 0; i < count; i++) {
      const color = colors[i][0] | colors[i][1] << 8 | colors[i][2] << 16;
      table[2 * (i + 1)] = color | 115 << 24;
      table[2 * (i + 1) + 1] = color | 255 << 24;
    }
    const pixels = new Uint32Array(image.data.buffer), {codes, width} = this;
    for (const [left, top, right, bottom] of regions) {
      for (let y = top; y < bottom; y++) {
        for (let at = y * width + left, end = y * width + right; at < end; at++) pixels[at] = table[codes[at]];
      }
    }
  }
}

// For each index of the image the first one of the view that reads it or a later one; the view reads its centres.
function firstViewIndices(size, viewSize) {
  const first = new Uint32Array(size + 1);
  let source = 0;
  for (let view = 0; view < viewSize; view++) {
    const read = Math.floor((view + 0.5) * size / viewSize);
    while (source <= read) first[source++] = view;
  }
  return first.fill(viewSize, source);
}
