// The page: asks the server once for each image, with all objects down to the slider's end, and draws what is wanted.

import {classColor} from "./colors.js";
import {saveJson, saveImage} from "./download.js";
import {byId, element, showTiming, swatch} from "./elements.js";
import {ask, objectsOf} from "./server.js";
import {View} from "./view.js";
import {Zoom} from "./zoom.js";

const canvas = byId("canvas"), stage = byId("stage"), slider = byId("threshold"), list = byId("objects");
const SHOWS = ["masks", "boxes", "labels"];
const MAX_ENLARGEMENT = 4;

let about = null;
let current = null;  // {file, answer, name, objects, areByClass, view, hiddenClasses, active, selected}
let request = null;
const zoom = new Zoom(canvas, zoomChanged);

// Asking the server

async function start() {
  about = await (await fetch("api/model")).json();
  byId("model").textContent = about.model;
  slider.value = Math.round(about.threshold * 100);
  showThreshold();
  byId("examples").append(...about.examples.map(exampleButton));
}

function exampleButton(name) {
  const address = `api/examples/${encodeURIComponent(name)}`;
  const button = element("button", {type: "button", title: name});
  button.append(element("img", {src: address, alt: `Example ${name}`}));
  button.addEventListener("click", async () => predict(await (await fetch(address)).blob(), name));
  return button;
}

// inTiles: whether the image is cut into tiles, null: the server decides by its size.
async function predict(file, name, inTiles = null) {
  request?.abort();
  const mine = request = new AbortController();
  setBusy(true, `${name}: looking for objects ...`);
  const started = performance.now();
  try {
    const {answer, image} = await ask(file, name, slider.min / 100, about?.max_bytes ?? Infinity, mine.signal,
      inTiles);
    if (request !== mine) return;
    showAnswer(file, answer, image, name, performance.now() - started);
  } catch (error) {
    if (request !== mine) return;
    setBusy(false, current ? describe() : "");
    if (current) byId("in-tiles").checked = current.answer.in_tiles;
    showError(`${name}: ${error.message}`);
  }
}

// Showing the answer

function showAnswer(file, answer, image, name, milliseconds) {
  const {objects, areByClass} = objectsOf(answer, about?.threshold ?? 0.5);
  current = {
    file, answer, name, objects, areByClass, view: new View(image, objects), hiddenClasses: new Set(), active: null,
    selected: null,
  };
  byId("invitation").hidden = true;
  canvas.hidden = byId("zoom").hidden = false;
  zoom.reset();
  stage.classList.add("filled");
  showError("");
  showTiming(answer.timing, milliseconds);
  makeFilter();
  list.replaceChildren(...objects.map(objectRow));
  byId("found").hidden = false;
  byId("in-tiles").disabled = false;
  byId("in-tiles").checked = answer.in_tiles;
  byId("save-image").disabled = byId("save-json").disabled = false;
  request = null;
  stage.classList.remove("busy");
  classesChanged();
}

function makeFilter() {
  const counts = new Map();
  for (const {name, classIndex} of current.objects) counts.set(name, classIndex);
  byId("classes").replaceChildren(...[...counts].map(([name, index]) => {
    const label = element("label");
    const box = element("input", {type: "checkbox", checked: true, value: name});
    box.addEventListener("change", () => {
      current.hiddenClasses[box.checked ? "delete" : "add"](name);
      classesChanged();
    });
    const count = element("span", {className: "count"});
    count.dataset.name = name;
    label.append(box, ...(current.areByClass ? [swatch(classColor(index))] : []),
      element("span", {className: "name", textContent: name}), count);
    return label;
  }));
  byId("filter").hidden = counts.size === 0;
}

function setAllClasses(isShown) {
  for (const box of byId("classes").querySelectorAll("input")) {
    box.checked = isShown;
    current.hiddenClasses[isShown ? "delete" : "add"](box.value);
  }
  classesChanged();
}

function objectRow(object, index) {
  const row = element("div", {id: `object-${index}`});
  row.setAttribute("role", "option");
  row.append(swatch(object.color), element("span", {className: "name", textContent: object.name}),
    element("span", {className: "score", textContent: object.score.toFixed(3)}));
  row.addEventListener("pointerenter", () => activate(index));
  row.addEventListener("click", () => select(index));
  object.row = row;
  return row;
}

// What is shown: a threshold, classes, and one active object

const isWanted = (object) => !current.hiddenClasses.has(object.name);
const countAbove = () => current.objects.findLastIndex((object) => object.score >= slider.value / 100) + 1;
const shownObjects = () => current.objects.slice(0, countAbove()).filter(isWanted);

function classesChanged() {
  current.view.assignOwners(isWanted);
  thresholdChanged();
}

function thresholdChanged() {
  showThreshold();
  if (!current) return;
  const count = countAbove();
  const counts = new Map();
  current.objects.forEach((object, index) => {
    object.row.hidden = index >= count || !isWanted(object);
    if (index < count) counts.set(object.name, (counts.get(object.name) ?? 0) + 1);
  });
  for (const label of byId("classes").querySelectorAll(".count")) label.textContent = counts.get(label.dataset.name) ?? 0;
  if (current.selected?.row.hidden) current.selected = null;
  if (current.active?.row.hidden) activate(-1);
  byId("status").textContent = describe();
  canvas.setAttribute("aria-label", describe());
  redraw();
}

function describe() {
  const {name, objects, view} = current;
  const shown = shownObjects().length;
  return `${name}, ${view.width} × ${view.height}: ${shown} of ${objects.length} objects shown`;
}

function showThreshold() {
  byId("threshold-value").textContent = `${slider.value} %`;
}

// The object stays active while the pointer is elsewhere, until it is chosen again or the background is.
function select(index) {
  if (!current) return;
  const object = current.objects[index] ?? null;
  current.selected = object === current.selected ? null : object;
  activate(index);
}

// index: of the object, or -1 for the selected one, if there is one.
function activate(index) {
  const object = current?.objects[index] ?? current?.selected ?? null;
  if (!current || object === current.active) return;
  current.active?.row.classList.remove("active");
  current.active = object;
  list.removeAttribute("aria-activedescendant");
  if (object) {
    object.row.classList.add("active");
    list.setAttribute("aria-activedescendant", object.row.id);
    const top = object.row.offsetTop - list.offsetTop;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + object.row.offsetHeight > list.scrollTop + list.clientHeight) {
      list.scrollTop = top + object.row.offsetHeight - list.clientHeight;
    }
  }
  redraw();
}

function moveActive(event) {
  const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
  if (!step || !current) return;
  event.preventDefault();
  const shown = shownObjects();
  const next = shown[shown.indexOf(current.active) + step] ?? current.active ?? shown[0];
  activate(current.objects.indexOf(next));
}

let isRedrawAsked = false;

function redraw() {
  if (isRedrawAsked) return;
  isRedrawAsked = true;
  requestAnimationFrame(() => {
    isRedrawAsked = false;
    draw();
  });
}

const wantedParts = () => Object.fromEntries(SHOWS.map((part) => [part, byId(`show-${part}`).checked]));

function draw() {
  if (!current) return;
  const {view, active} = current;
  const unit = window.devicePixelRatio || 1;
  const largest = [stage.clientWidth / view.width, Math.max(240, window.innerHeight * 0.8) / view.height];
  const scale = Math.min(MAX_ENLARGEMENT, ...largest) * unit;
  view.draw(canvas, shownObjects(), active, wantedParts(), scale, unit, zoom);
  canvas.style.width = `${canvas.width / unit}px`;
  canvas.style.height = `${canvas.height / unit}px`;
}

function zoomChanged() {
  byId("zoom-out").disabled = byId("zoom-reset").disabled = !zoom.isZoomed;
  byId("zoom-reset").textContent = `${Math.round(zoom.factor * 100)} %`;
  redraw();
}

// Index of the shown object at the pointer, or -1.
function indexAt(event) {
  const place = zoom.imagePlace(event.offsetX / canvas.clientWidth, event.offsetY / canvas.clientHeight);
  const index = current?.view.owners.at(...place) ?? -1;
  return index < countAbove() ? index : -1;
}

// Small things

function setBusy(isBusy, text) {
  stage.classList.toggle("busy", isBusy);
  byId("status").textContent = text;
  if (isBusy) showError("");
}

function showError(text) {
  byId("error").textContent = text;
  byId("error").hidden = !text;
}

function openFirst(files) {
  if (files.length) predict(files[0], files[0].name || "pasted image");
}

// Events

byId("choose").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", (event) => {
  openFirst(event.target.files);
  event.target.value = "";  // so that the same file can be chosen again
});
document.addEventListener("paste", (event) => openFirst(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  stage.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) stage.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("over");
  openFirst(event.dataTransfer.files);
});
slider.addEventListener("input", thresholdChanged);
for (const part of SHOWS) byId(`show-${part}`).addEventListener("change", redraw);
byId("in-tiles").addEventListener("change", () => predict(current.file, current.name, byId("in-tiles").checked));
byId("all-classes").addEventListener("click", () => setAllClasses(true));
byId("no-classes").addEventListener("click", () => setAllClasses(false));
list.addEventListener("keydown", moveActive);
list.addEventListener("pointerleave", () => activate(-1));
canvas.addEventListener("pointermove", (event) => current && activate(indexAt(event)));
canvas.addEventListener("pointerleave", () => activate(-1));
canvas.addEventListener("click", (event) => zoom.wasDragged || select(indexAt(event)));
byId("zoom-in").addEventListener("click", () => zoom.by(2));
byId("zoom-out").addEventListener("click", () => zoom.by(1 / 2));
byId("zoom-reset").addEventListener("click", () => zoom.reset());
byId("save-image").addEventListener("click", () => saveImage(current, shownObjects(), wantedParts()));
byId("save-json").addEventListener("click", () => saveJson(current, shownObjects()));
new ResizeObserver(redraw).observe(stage);

start().catch(() => showError("The server does not answer."));
