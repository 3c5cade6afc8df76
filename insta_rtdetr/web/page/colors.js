// A hue for each class, and a shade of it for each object, so that neighbours of one class can be told apart.

const GOLDEN_ANGLE = 137.508;
const HUE_STEPS = [0, 14, -14, 7, -7];
const LIGHTNESS_STEPS = [52, 62, 44];

export function classColor(classIndex) {
  return rgb(classIndex * GOLDEN_ANGLE + 210, 85, 52);
}

export function objectColor(classIndex, objectIndex) {
  const hue = classIndex * GOLDEN_ANGLE + 210 + HUE_STEPS[objectIndex % HUE_STEPS.length];
  return rgb(hue, 85, LIGHTNESS_STEPS[objectIndex % LIGHTNESS_STEPS.length]);
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
