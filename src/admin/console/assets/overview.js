// The first look: what is under way, what was asked in the last hour, what it cost, how the providers are, and the last requests.

import { api } from "./api.js";
import { add, h, rows, show, table, write } from "./dom.js";
import { clock, compact, count, ms, percent, usd } from "./format.js";
import { requestRow, REQUEST_COLUMNS } from "./logs.js";
import { bars, legend } from "./plot.js";
import { stateBadge } from "./providers.js";

export const title = "Overview";

const MINUTES = 60;

export function mount(root, context) {
  const tile = (name, link) => {
    const [value, note] = [h("strong", {}, "…"), h("span", { class: "hint" })];
    return { node: h("a", { class: "tile", href: context.link(link) }, h("span", { class: "name" }, name), value, note), value, note };
  };
  const tiles = { live: tile("Under way", "live"), hour: tile("Attempts, last hour", "logs"), errors: tile("Provider errors, last hour", "providers"), today: tile("Spent today (UTC)", "spend"), month: tile("Spent in 30 days", "spend") };
  const plot = h("div");
  const health = h("div", { class: "cards" });
  const last = table("The last requests", REQUEST_COLUMNS);
  const put = rows(last.body, (row) => row.request_id + row.created_at, requestRow);
  add(root, [
    h("div", { class: "tiles" }, Object.values(tiles).map((one) => one.node)),
    h("section", {}, h("h2", {}, "Attempts per minute, last hour"), legend(["answered", "failed"]), plot),
    h("section", {}, h("h2", {}, "Providers"), health),
    h("section", {}, h("h2", {}, "Last requests"), last.node),
  ]);
  const get = (path) => api("GET", context.at(path), { signal: context.signal });
  context.every(3000, async () => {
    const [live, state, newest] = await Promise.all([get("/live"), get("/performance/live"), get("/logs?limit=8")]);
    write(tiles.live.value, count(live.under_way));
    write(tiles.live.note, live.requests.length ? `oldest ${ms(live.requests[0].elapsed_ms)}` : "nothing waits");
    show(health, state.credentials.length ? state.credentials.map(card) : nobody(context));
    put(newest.logs, "No request yet. Send one from the playground, or point an application at the gateway.");
  });
  context.every(15_000, async () => {
    const [series, today, month] = await Promise.all([get("/usage/series?interval=minute&days=2"), get("/usage?days=1"), get("/usage?days=30")]);
    hour(series.series, tiles, plot);
    write(tiles.today.value, usd(today.total_cost));
    write(tiles.today.note, `${compact(today.total_tokens)} tokens`);
    write(tiles.month.value, usd(month.total_cost));
    write(tiles.month.note, `${compact(month.total_tokens)} tokens`);
  });
}

function hour(series, tiles, plot) {
  const minute = Math.floor(Date.now() / 60_000);
  const known = new Map(series.map((point) => [Math.floor(Date.parse(point.start) / 60_000), point]));
  const points = Array.from({ length: MINUTES }, (_, at) => known.get(minute - MINUTES + 1 + at));
  const labels = points.map((_, at) => clock((minute - MINUTES + 1 + at) * 60_000).slice(0, 5));
  const errors = points.map((point) => point?.errors ?? 0);
  const good = points.map((point, at) => (point?.attempts ?? 0) - errors[at]);
  const sum = (values) => values.reduce((all, one) => all + one, 0);
  const [failed, all] = [sum(errors), sum(errors) + sum(good)];
  write(tiles.hour.value, count(all));
  write(tiles.hour.note, `${(all / MINUTES).toFixed(1)} a minute`);
  write(tiles.errors.value, all ? percent(failed / all) : "–");
  write(tiles.errors.note, `${count(failed)} of ${count(all)}`);
  const summary = `${all} attempts in the last hour, ${failed} of them failed`;
  show(plot, bars(summary, labels, [{ name: "answered", values: good, color: 0 }, { name: "failed", values: errors, color: 1 }], compact));
}

function card(credential) {
  const rates = credential.routes.filter((route) => route.error_rate !== null && route.attempts >= 0.05);
  const attempts = rates.reduce((sum, route) => sum + route.attempts, 0);
  const failed = rates.reduce((sum, route) => sum + route.attempts * route.error_rate, 0);
  const first = credential.routes.map((route) => route.first_token_p50_ms).filter((value) => value !== null);
  return h("div", { class: "card" },
    h("div", { class: "row" }, h("strong", {}, credential.provider), stateBadge(credential)),
    h("dl", {},
      h("dt", {}, "First token, p50"), h("dd", {}, first.length ? ms(Math.min(...first)) : "–"),
      h("dt", {}, "Errors, 2 min"), h("dd", {}, attempts ? percent(failed / attempts) : "–"),
      h("dt", {}, "In flight"), h("dd", {}, count(credential.in_flight))));
}

function nobody(context) {
  return h("p", { class: "empty" }, "No provider yet, so nothing can be served. ", h("a", { href: context.link("providers") }, "Add a credential"), ".");
}
