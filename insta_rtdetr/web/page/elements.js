// Parts of the page.

import {css} from "./colors.js";

export const byId = (id) => document.getElementById(id);

export function element(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

export function swatch(color) {
  const patch = element("span", {className: "swatch"});
  patch.style.backgroundColor = css(color);
  return patch;
}

// timing: seconds that the server took for each stage; milliseconds: that passed here.
export function showTiming(timing, milliseconds) {
  const rows = [["waiting", timing.wait], ["reading", timing.read], ["prediction", timing.predict],
    ["encoding", timing.encode], ["in all, with transfer", milliseconds / 1000]];
  byId("timing").replaceChildren(...rows.map(([name, seconds]) => {
    const pair = element("div");
    pair.append(element("dt", {textContent: name}), element("dd", {textContent: `${Math.round(seconds * 1000)} ms`}));
    return pair;
  }));
  byId("timing").hidden = false;
}
