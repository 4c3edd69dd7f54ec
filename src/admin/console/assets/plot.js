// Small drawings: bars over time, a line of a few numbers, a bar in a table. Widths are the page's own, so text keeps its size.

import { h, s, show } from "./dom.js";

const HEIGHT = 190;
const SPACE = { top: 10, right: 8, bottom: 22, left: 54 };

/** A legend for series that have names. */
export function legend(names) {
  return h("ul", { class: "legend" }, names.map((name, at) => h("li", {}, h("span", { class: `swatch fill${at % 8}`, "aria-hidden": "true" }), name)));
}

/** Stacked bars. `series` is `[{ name, values }]` with a value for each label; `format` writes a value; `tick` a label of the axis. */
export function bars(summary, labels, series, format, tick = (label) => label) {
  const box = h("div", { class: "plot" });
  const draw = () => show(box, drawing(box.clientWidth || 600, summary, labels, series, format, tick));
  new ResizeObserver(draw).observe(box);
  return box;
}

function drawing(width, summary, labels, series, format, tick) {
  const inner = { width: Math.max(60, width - SPACE.left - SPACE.right), height: HEIGHT - SPACE.top - SPACE.bottom };
  const totals = labels.map((_, at) => series.reduce((sum, one) => sum + (one.values[at] || 0), 0));
  const steps = scale(Math.max(...totals, 0));
  const top = steps.at(-1) || 1;
  const y = (value) => SPACE.top + inner.height * (1 - value / top);
  const step = inner.width / Math.max(1, labels.length);
  const gap = Math.min(4, step * 0.25);
  const node = s("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": summary });
  for (const value of steps) {
    node.append(
      s("line", { class: "grid", x1: SPACE.left, x2: SPACE.left + inner.width, y1: y(value), y2: y(value) }),
      s("text", { class: "axis", x: SPACE.left - 8, y: y(value) + 4, "text-anchor": "end" }, format(value)),
    );
  }
  const every = Math.max(1, Math.ceil(labels.length / Math.max(1, Math.floor(inner.width / 74))));
  labels.forEach((label, at) => {
    const x = SPACE.left + at * step;
    const said = series.filter((one) => one.values[at]).map((one) => `${one.name}: ${format(one.values[at])}`);
    const group = s("g", { class: "bar" }, s("title", {}, [label, ...(said.length ? said : ["nothing"])].join("\n")));
    group.append(s("rect", { class: "hit", x, y: SPACE.top, width: step, height: inner.height }));
    let below = 0;
    series.forEach((one, place) => {
      const value = one.values[at] || 0;
      if (value <= 0) return;
      const height = Math.max(1, y(below) - y(below + value));
      group.append(s("rect", { class: `fill${one.color ?? place % 8}`, x: x + gap / 2, y: y(below) - height, width: Math.max(1, step - gap), height }));
      below += value;
    });
    node.append(group);
    if (at % every === 0) node.append(s("text", { class: "axis", x: x + step / 2, y: HEIGHT - 6, "text-anchor": "middle" }, tick(label)));
  });
  return node;
}

/** Four round steps from zero to what is at least the largest. */
function scale(largest) {
  if (!(largest > 0)) return [0];
  const rough = largest / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const unit = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough) * power;
  const steps = [];
  for (let at = 0; at * unit < largest + unit * 0.999; at++) steps.push(at * unit);
  return steps;
}

/** A line of the last few numbers. */
export function spark(values, label) {
  const [width, height] = [84, 20];
  const known = values.filter((value) => value !== null);
  const node = s("svg", { class: "spark", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  if (known.length > 1) {
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const place = (value, at) => `${(2 + (at * (width - 4)) / (values.length - 1)).toFixed(1)},${(height - 3 - ((value - low) / (high - low || 1)) * (height - 6)).toFixed(1)}`;
    const points = values.map((value, at) => (value === null ? null : place(value, at))).filter(Boolean);
    node.append(s("polyline", { points: points.join(" ") }));
  }
  return node;
}

/** A bar that shows a share of one. */
export function meter(share, place = 0) {
  const inner = h("span", { class: `fill${place % 8}` });
  inner.style.width = `${Math.max(share > 0 ? 1 : 0, Math.min(100, share * 100))}%`;
  return h("span", { class: "meter", "aria-hidden": "true" }, inner);
}
