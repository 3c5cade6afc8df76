// COCO's run-length code.

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

// Call visit(column, first row, row behind the last) for each piece of a column that a mask of this height covers.
export function forEachPiece(runs, height, visit) {
  let start = 0;
  for (let i = 0; i < runs.length; i++) {
    const end = start + runs[i];
    if (i % 2) {
      for (let at = start; at < end;) {
        const column = Math.floor(at / height), columnEnd = Math.min(end, (column + 1) * height);
        visit(column, at - column * height, columnEnd - column * height);
        at = columnEnd;
      }
    }
    start = end;
  }
}
