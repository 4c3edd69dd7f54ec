// What was used, in dollars or tokens: by day and provider, by provider, by model, by key. From the ledger's sums, days in UTC.

import { api, query } from "./api.js";
import { add, badge, h, select, show, write } from "./dom.js";
import { compact, count, lastDays, percent, usd } from "./format.js";
import { bars, legend, meter } from "./plot.js";

export const title = "Spend";

/** Providers that have a colour of their own; the rest are one. */
const COLOURS = 7;
const MEASURES = { cost: ["Cost", usd], tokens: ["Tokens", compact] };

export function mount(root, context) {
  const days = select([["7", "7 days"], ["30", "30 days"], ["90", "90 days"]], { id: "days", value: "30" });
  const measure = select([["cost", "Cost"], ["tokens", "Tokens"]], { id: "measure" });
  const total = h("strong", {}, "…");
  const tokens = h("strong", {}, "…");
  const unsure = h("span", { class: "badges" });
  const plot = h("div");
  const groups = { provider: h("div"), model: h("div"), key: h("div") };
  context.heading.append(h("label", { for: "measure", class: "unseen" }, "Measure"), measure, h("label", { for: "days", class: "unseen" }, "Days"), days);
  add(root, [
    h("div", { class: "tiles" },
      h("div", { class: "tile" }, h("span", { class: "name" }, "Cost"), total, unsure),
      h("div", { class: "tile" }, h("span", { class: "name" }, "Tokens"), tokens, h("span", { class: "hint" }, "prompt and completion"))),
    h("section", {}, h("h2", {}, "By day"), plot),
    h("div", { class: "columns" }, Object.entries(groups).map(([name, node]) => h("section", {}, h("h2", {}, `By ${name}`), node))),
  ]);
  const get = (path, values = {}) => api("GET", context.at(path + query({ days: days.value, ...values })), { signal: context.signal });
  const load = context.every(20_000, async () => {
    const [all, models, keys, names] = await Promise.all([get("/usage"), get("/usage/by-model"), get("/usage/by-key"), api("GET", context.at("/api-keys"), { signal: context.signal })]);
    const providers = sorted(all.by_provider, measure.value).map(([name]) => name);
    const own = providers.slice(0, COLOURS);
    const series = await Promise.all([...own.map((provider) => get("/usage/series", { interval: "day", provider })), providers.length > COLOURS ? get("/usage/series", { interval: "day" }) : undefined]);
    write(total, usd(all.total_cost));
    write(tokens, compact(all.total_tokens));
    show(unsure, doubts(all));
    show(plot, byDay(Number(days.value), own, series, measure.value));
    const named = new Map(names.map((key) => [key.id, `${key.name} (…${key.last_four})`]));
    show(groups.provider, ranking(all.by_provider, measure.value, own));
    show(groups.model, ranking(models, measure.value));
    show(groups.key, ranking(Object.fromEntries(Object.entries(keys).map(([id, sums]) => [named.get(id) ?? id, sums])), measure.value));
  });
  days.addEventListener("change", load);
  measure.addEventListener("change", load);
}

function sorted(groups, measure) {
  return Object.entries(groups).sort(([, left], [, right]) => right[measure] - left[measure]);
}

/** What is not sure of a sum: attempts without a known price, and dollars that are estimated. Absent where all of it is sure. */
function doubts(sums) {
  const { unpriced = 0, unpriced_tokens: tokens = 0, estimated_cost: estimated = 0 } = sums;
  const left = `Models whose price is not known: ${compact(tokens)} tokens are booked, and their cost is not in the sum.`;
  return [unpriced > 0 && badge(`${count(unpriced)} unpriced`, "warn", left), estimated > 0 && badge(`${usd(estimated)} estimated`, "warn", "Answers that broke off before the provider told their tokens.")].filter(Boolean);
}

function byDay(number, providers, series, measure) {
  const labels = lastDays(number);
  const [word, format] = MEASURES[measure];
  const values = (points) => {
    const known = new Map(points.map((point) => [point.start.slice(0, 10), point[measure]]));
    return labels.map((label) => known.get(label) ?? 0);
  };
  const shown = providers.map((name, at) => ({ name, values: values(series[at].series) }));
  const all = series[providers.length];
  if (all) {
    const rest = values(all.series).map((sum, at) => Math.max(0, sum - shown.reduce((known, one) => known + one.values[at], 0)));
    shown.push({ name: "others", values: rest });
  }
  if (!shown.length) return h("p", { class: "empty" }, "Nothing was used in these days.");
  const sum = shown.reduce((outer, one) => outer + one.values.reduce((inner, value) => inner + value, 0), 0);
  return [legend(shown.map((one) => one.name)), bars(`${word} by day and provider over ${number} days, ${format(sum)} in all`, labels, shown, format, (label) => label.slice(5))];
}

function ranking(groups, measure, order = []) {
  const all = sorted(groups, measure);
  if (!all.length) return h("p", { class: "empty" }, "Nothing was used in these days.");
  const sum = all.reduce((total, [, one]) => total + one[measure], 0);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Sums" }, h("table", {}, h("thead", {}, h("tr", {}, ["Name", "Share", "Cost", "Tokens"].map((head, at) => h("th", { scope: "col", class: at > 1 ? "number" : undefined }, head)))),
    h("tbody", {}, all.map(([name, one]) => {
      const share = sum ? one[measure] / sum : 0;
      return h("tr", {}, h("th", { scope: "row" }, name, doubts(one).map((doubt) => [" ", doubt])),
        h("td", { class: "share" }, meter(share, Math.max(0, order.indexOf(name))), h("span", {}, percent(share))),
        h("td", { class: "number" }, usd(one.cost)), h("td", { class: "number" }, compact(one.tokens)));
    }))));
}
