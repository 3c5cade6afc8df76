// Which object is to be seen at a place of the image.

import {forEachPiece} from "./runs.js";

const NOBODY = 0;  // the object of index i is i + 1
const MAX_PIXELS = 1.5e6;

export class OwnerMap {
  // A pixel belongs to the best object that covers it.  Objects are sorted by score, so a threshold, which leaves the
  // first ones, changes no owner.
  constructor(width, height) {
    const scale = Math.min(1, Math.sqrt(MAX_PIXELS / (width * height)));
    this.width = Math.max(1, Math.round(width * scale));
    this.height = Math.max(1, Math.round(height * scale));
    this.sourceHeight = height;
    this.firstColumn = firstIndices(width, this.width);
    this.firstRow = firstIndices(height, this.height);
    this.owners = new Uint16Array(this.width * this.height);  // column by column, as the runs are
  }

  // objects: sorted by score, `runs` of each (null if it has no mask); isWanted(object): whether its class is shown.
  assign(objects, isWanted) {
    this.owners.fill(NOBODY);
    for (let i = objects.length - 1; i >= 0; i--) {
      if (objects[i].runs && isWanted(objects[i])) this.#fill(objects[i].runs, i + 1);
    }
  }

  #fill(runs, owner) {
    const {firstColumn, firstRow, height, owners} = this;
    forEachPiece(runs, this.sourceHeight, (column, top, bottom) => {
      const at = firstColumn[column] * height;
      if (firstColumn[column] < firstColumn[column + 1]) owners.fill(owner, at + firstRow[top], at + firstRow[bottom]);
    });
  }

  // Index of the object at a place, x and y from 0 to 1; -1 for none.
  at(x, y) {
    const column = Math.floor(x * this.width), row = Math.floor(y * this.height);
    if (column < 0 || row < 0 || column >= this.width || row >= this.height) return -1;
    return this.owners[column * this.height + row] - 1;
  }
}

// For each index of the image the first one of the map that reads it or a later one; the map reads its centres.
function firstIndices(size, mapSize) {
  const first = new Uint32Array(size + 1);
  let source = 0;
  for (let index = 0; index < mapSize; index++) {
    const read = Math.floor((index + 0.5) * size / mapSize);
    while (source <= read) first[source++] = index;
  }
  return first.fill(mapSize, source);
}
