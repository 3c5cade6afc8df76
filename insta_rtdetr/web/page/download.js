// What is shown, as files.

// The long side of a saved image at least, so that labels fit.
const MIN_SAVED_SIDE = 1000;
// Labels grow with images that are larger than a screen.
const SIDE_OF_A_SCREEN = 1400;

export function saveImage({name, view}, shown, parts) {
  const side = Math.max(view.width, view.height);
  const scale = Math.max(1, MIN_SAVED_SIDE / side);
  const canvas = document.createElement("canvas");
  view.draw(canvas, shown, null, parts, scale, Math.max(1, side * scale / SIDE_OF_A_SCREEN));
  canvas.toBlob((blob) => save(blob, `${stem(name)}_found.png`), "image/png");
}

export function saveJson({answer, name}, shown) {
  const content = {...answer, annotations: shown.map((object) => object.annotation)};
  save(new Blob([JSON.stringify(content)], {type: "application/json"}), `${stem(name)}.json`);
}

function stem(name) {
  return name.replace(/\.[^.]*$/, "") || "image";
}

function save(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement("a"), {href: address, download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
