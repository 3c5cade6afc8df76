// Asks the server, and reads its answer.

import {assignColors} from "./colors.js";
import {decodeRuns} from "./runs.js";

// What it finds in an image: {answer, image}, its JSON and a decoded <img>.  threshold: 0 to 1; signal: to abort;
// inTiles: whether it is cut into tiles, null: the server decides by its size.
export async function ask(file, name, threshold, maxBytes, signal, inTiles) {
  if (file.size > maxBytes) {
    throw new Error(`The file is larger than ${maxBytes / 1e6} MB.  Choose a smaller one.`);
  }
  const query = new URLSearchParams({threshold, image: true, name: name.slice(0, 255)});
  if (inTiles !== null) query.set("in_tiles", inTiles);
  const response = await fetch(`api/predict?${query}`, {method: "POST", body: file, signal}).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("The server does not answer.");
  });
  const answer = await response.json().catch(() => ({detail: `The server failed (${response.status}).`}));
  if (!response.ok) throw new Error(answer.detail);
  // What is shown is what the model saw: upright, without transparency, in 8 bits.
  const image = new Image();
  image.src = answer.image;
  await image.decode();
  delete answer.image;
  return {answer, image};
}

// The objects of an answer as the view and the list take them, in the answer's order, and whether their colours show
// classes: if those with at least the threshold's score, from 0 to 1, are of several.
export function objectsOf(answer, threshold) {
  const classIndex = new Map(answer.categories.map((category, index) => [category.id, index]));
  const objects = answer.annotations.map((annotation) => {
    const [left, top, width, height] = annotation.bbox;
    const itsClass = classIndex.get(annotation.category_id);
    return {
      annotation, score: annotation.score, name: answer.categories[itsClass].name, classIndex: itsClass,
      box: [left, top, left + width, top + height],
      runs: annotation.segmentation ? decodeRuns(annotation.segmentation.counts) : null,
    };
  });
  const classes = new Set(objects.filter(({score}) => score >= threshold).map(({classIndex}) => classIndex));
  assignColors(objects, classes.size === 1);
  return {objects, areByClass: classes.size !== 1};
}
