// What is under way at this moment, and what has just ended.

import { api } from "./api.js";
import { add, h, rows, table, write } from "./dom.js";
import { clock, compact, count, ms } from "./format.js";
import { requestRow, REQUEST_COLUMNS } from "./logs.js";

export const title = "Live";

export function mount(root, context) {
  const everywhere = h("input", { type: "checkbox", id: "everywhere" });
  const several = context.workspaces.length > 1;
  const summary = h("p", { class: "hint", role: "status" });
  const now = table("Requests under way", ["Started", "Workspace", "Key", "Model", "Served by", ["Attempt", "number"], ["First token", "number"], ["Tokens", "number"], ["Elapsed", "number"]]);
  const done = table("Requests that have just ended", REQUEST_COLUMNS);
  const putNow = rows(now.body, (row) => row.request_id + row.created_at, runningRow);
  const putDone = rows(done.body, (row) => row.request_id + row.created_at, requestRow);
  add(root, [
    h("section", {}, h("div", { class: "row" }, h("h2", {}, "Under way"),
      several && h("span", { class: "check" }, everywhere, h("label", { for: "everywhere" }, "All workspaces"))), summary, now.node),
    h("section", {}, h("h2", {}, "Just ended"), done.node),
  ]);
  const look = context.every(1000, async () => {
    const live = await api("GET", everywhere.checked ? "live" : context.at("/live"), { signal: context.signal });
    const shown = live.requests.length < live.under_way ? `, the oldest ${count(live.requests.length)} of them here` : "";
    write(summary, `${count(live.under_way)} under way${shown}`);
    putNow(live.requests, "Nothing is under way. Requests appear here while they run.");
  });
  everywhere.addEventListener("change", look);
  context.every(2000, async () => {
    const newest = await api("GET", context.at("/logs?limit=15"), { signal: context.signal });
    putDone(newest.logs, "No request yet. Send one from the playground, or point an application at the gateway.");
  });
}

function runningRow() {
  const cells = Array.from({ length: 9 }, (_, at) => h("td", { class: at > 4 ? "number" : undefined }));
  return { node: h("tr", {}, cells), update: (row) => {
    const served = row.provider ? `${row.provider} · ${row.upstream_model}` : "choosing";
    const texts = [clock(row.created_at), row.workspace_name, row.key_name || row.key, row.model, served,
      row.attempt ? count(row.attempt) : "–", row.first_token_ms === null ? "waiting" : ms(row.first_token_ms),
      row.stream ? compact(row.tokens) : "whole", ms(row.elapsed_ms)];
    texts.forEach((text, at) => write(cells[at], text));
  } };
}
