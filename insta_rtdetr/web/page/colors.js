// Colours of objects, such that neighbours can be told apart; insta_rtdetr/visualization/colors.py does the same.

const PALETTE = [
  [56, 150, 255], [255, 138, 30], [84, 214, 70], [235, 80, 220], [255, 221, 51], [40, 214, 205], [255, 84, 84],
  [160, 118, 255],
];
const GOLDEN_ANGLE = 137.508;
// Shades of a class's hue: degrees away from it, and lightness in percent.
const SHADES = [[0, 54], [16, 64], [-16, 44], [-14, 68], [14, 46], [0, 72]];
const NEIGHBOUR_MARGIN = 0.25;  // of a box's mean side, on each of its sides

export function classColor(classIndex, [turn, lightness] = SHADES[0]) {
  return rgb(classIndex * GOLDEN_ANGLE + 210 + turn, 85, lightness);
}

// Give each object the colour that the fewest neighbours have, then the fewest objects: of the palette where all are of
// one class, else a shade of its class's hue.  objects: {box, classIndex}.
export function assignColors(objects, ofOneClass) {
  const choices = new Map();
  const areas = objects.map(({box: [left, top, right, bottom]}) => {
    const margin = (right - left + bottom - top) / 2 * NEIGHBOUR_MARGIN;
    return [left - margin, top - margin, right + margin, bottom + margin];
  });
  const used = new Map();
  objects.forEach((object, index) => {
    const its = ofOneClass ? -1 : object.classIndex;
    if (!choices.has(its)) choices.set(its, ofOneClass ? PALETTE : SHADES.map((shade) => classColor(its, shade)));
    const near = objects.slice(0, index).filter((_, other) => overlap(areas[index], areas[other]));
    const cost = (color) => near.filter((other) => other.color === color).length * objects.length + (used.get(color) ?? 0);
    object.color = choices.get(its).reduce((best, color) => cost(color) < cost(best) ? color : best);
    used.set(object.color, (used.get(object.color) ?? 0) + 1);
  });
}

function overlap(one, other) {
  return one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];
}

export function css(color) {
  return `rgb(${color.join(" ")})`;
}

// Black or white, whichever has the higher contrast (relative luminance of WCAG 2).
export function textColor(color) {
  const [red, green, blue] = color.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}

// Hue in degrees, saturation and lightness in percent.
function rgb(hue, saturation, lightness) {
  const light = lightness / 100, amount = saturation / 100 * Math.min(light, 1 - light);
  return [0, 8, 4].map((offset) => {
    const k = (offset + hue / 30 + 120) % 12;
    return Math.round(255 * (light - amount * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  });
}
