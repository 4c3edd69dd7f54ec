// The request log: filters, pages, and the attempts of a request.

import { api, download, query } from "./api.js";
import { add, badge, button, field, h, rows, select, show, table, write } from "./dom.js";
import { compact, count, moment, ms, usd } from "./format.js";

export const title = "Logs";

export const REQUEST_COLUMNS = ["Time", "Model", "Provider", ["Tokens", "number"], ["Cost", "number"], ["Latency", "number"], "Status"];

export function statusBadge(status) {
  if (status === 499) return badge("499 client left", "plain");
  return badge(String(status), status < 400 ? "good" : status < 500 ? "warn" : "bad");
}

function requestCells(row) {
  return [h("td", { class: "when", title: row.request_id }, moment(row.created_at)), h("td", {}, row.model), h("td", {}, row.provider ?? "–"),
    h("td", { class: "number" }, compact(row.tokens)), h("td", { class: "number" }, usd(row.cost)),
    h("td", { class: "number" }, ms(row.latency_ms)), h("td", {}, statusBadge(row.status))];
}

/** A request that is over, which does not change any more. */
export function requestRow(row) {
  return { node: h("tr", {}, requestCells(row)), update: () => undefined };
}

export function mount(root, context) {
  const filters = controls();
  const pager = { page: 1, total: 0 };
  const list = table("Requests, newest first", ["", ...REQUEST_COLUMNS]);
  const put = rows(list.body, (row) => row.request_id + row.created_at, (row) => expandable(row, list.columns));
  const where = h("span", { role: "status" });
  const names = ["provider", "status", "start_date", "end_date"];
  const asked = () => Object.fromEntries(names.map((name) => [name, filters.inputs[name].value]));
  const load = async () => {
    const limit = Number(filters.inputs.limit.value);
    Object.values(filters.fields).forEach((one) => one.complain(""));
    try {
      const found = await api("GET", context.at(`/logs${query({ ...asked(), limit, page: pager.page, details: "true" })}`), { signal: context.signal });
      pager.total = found.total;
      put(found.logs, names.some((name) => asked()[name]) ? "No request matches. Change or clear the filters." : "No request yet. Send one from the playground, or point an application at the gateway.");
      const first = (pager.page - 1) * limit + 1;
      write(where, found.logs.length ? `${count(first)}–${count(first + found.logs.length - 1)} of ${count(found.total)}` : "nothing");
      previous.disabled = pager.page <= 1;
      next.disabled = pager.page * limit >= found.total;
    } catch (error) {
      if (!filters.fields[error.param]) throw error;
      filters.fields[error.param].complain(error.message);
    }
  };
  const turn = (by) => async () => {
    pager.page += by;
    await load();
  };
  const previous = button("Newer", turn(-1), { disabled: true });
  const next = button("Older", turn(1), { disabled: true });
  const apply = button("Apply", () => {
    pager.page = 1;
    return load();
  }, { class: "primary" });
  filters.node.append(h("div", { class: "actions" }, apply, button("Clear", () => {
    names.forEach((name) => { filters.inputs[name].value = ""; });
    pager.page = 1;
    return load();
  })));
  filters.node.addEventListener("submit", (event) => {
    event.preventDefault();
    apply.click();
  });
  const exported = (format) => button(format === "csv" ? "CSV" : "NDJSON", () =>
    download(context.at(`/logs/export${query({ format, start_date: asked().start_date, end_date: asked().end_date })}`), `ledger.${format}`), { title: "Every request of these days, with every attempt" });
  add(root, [filters.node, list.node, h("div", { class: "row" }, where, previous, next, h("span", { class: "grow" }), h("span", { class: "hint" }, "Export these days:"), exported("csv"), exported("ndjson"))]);
  api("GET", context.at("/providers"), { signal: context.signal }).then((credentials) => {
    const known = [...new Set(credentials.map((one) => one.provider))].sort();
    known.forEach((name) => filters.inputs.provider.append(h("option", { value: name }, name)));
  }, () => undefined);
  let started = false;
  // The first page is read at once and, as long as nobody has turned it, kept fresh.
  context.every(5000, () => (started && (pager.page > 1 || list.body.querySelector("tr.more")) ? undefined : ((started = true), load())));
}

function controls() {
  const inputs = {
    provider: select([["", "any"]]),
    status: select([["", "any"], "200", "400", "401", "402", "403", "404", "408", "413", "422", "429", ["499", "499 client left"], "500", "502", "503", "504"]),
    start_date: h("input", { type: "date" }),
    end_date: h("input", { type: "date" }),
    limit: select(["25", "50", "100", "200"], { value: "25" }),
  };
  const fields = {
    provider: field("Provider", inputs.provider),
    status: field("Status", inputs.status),
    start_date: field("From (UTC)", inputs.start_date),
    end_date: field("To (UTC)", inputs.end_date),
    limit: field("A page", inputs.limit),
  };
  return { inputs, fields, node: h("form", { class: "filters", "aria-label": "Filters" }, Object.values(fields)) };
}

function expandable(row, columns) {
  const id = `attempts-${row.request_id}`;
  const more = h("tr", { class: "more", id }, h("td", { colspan: columns }, details(row)));
  const open = h("button", { type: "button", class: "link", "aria-expanded": "false", "aria-controls": id, "aria-label": `Details of ${row.request_id}`, onclick: () => {
    const expand = !more.isConnected;
    if (expand) node.after(more); else more.remove();
    open.setAttribute("aria-expanded", String(expand));
  } });
  const node = h("tr", {}, h("td", {}, open), requestCells(row));
  return { node, more, update: () => undefined };
}

/** What is known of a request, and each of its attempts. */
export function details(row) {
  const facts = [["Request", row.request_id], ["Key", row.key], ["Strategy", row.strategy], ["Answer", row.stream ? "stream" : "whole"],
    ["First token", row.first_token_ms === null ? "–" : ms(row.first_token_ms)], ["Error", row.error]];
  return h("div", { class: "details" },
    h("dl", { class: "facts" }, facts.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    row.attempts?.length ? attempts(row.attempts) : h("p", { class: "hint" }, "No provider was asked."));
}

function attempts(all) {
  const heads = ["#", "Provider", "Model", "Status", "Why this one", "Passed over", "In", "Out", "Cost", "First token", "Latency"];
  const body = h("tbody");
  const number = (text) => h("td", { class: "number" }, text);
  show(body, all.map((one, at) => h("tr", {}, h("td", {}, at + 1), h("th", { scope: "row" }, one.provider), h("td", {}, one.model),
    h("td", {}, one.error ? badge(`${one.status || ""} ${one.error}`.trim(), "bad") : statusBadge(one.status)),
    h("td", {}, one.reason ?? "–"), h("td", {}, one.passed_over?.length ? one.passed_over.join(", ") : "–"),
    number(compact(one.input_tokens)), number(compact(one.output_tokens)),
    number([usd(one.cost), one.certainty && one.certainty !== "exact" ? [" ", badge(one.certainty, "warn")] : null].flat()),
    number(one.first_token_ms === null ? "–" : ms(one.first_token_ms)), number(ms(one.latency_ms)))));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Attempts" },
    h("table", {}, h("caption", { class: "unseen" }, "Attempts"), h("thead", {}, h("tr", {}, heads.map((head, at) => h("th", { scope: "col", class: at > 5 ? "number" : undefined }, head)))), body));
}
