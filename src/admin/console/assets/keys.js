// Virtual keys: what applications send. A key is shown once, when it is made.

import { api } from "./api.js";
import { badge, button, confirm, copy, dialog, field, h, rows, select, show, table, toast, write } from "./dom.js";
import { count, moment, usd } from "./format.js";

export const title = "Keys";

const LIMITS = [["requests_per_minute", "Requests per minute"], ["tokens_per_minute", "Tokens per minute"], ["usd_per_day", "Dollars per day"], ["usd_per_month", "Dollars per month"], ["max_in_flight", "Under way at once"]];
const LIVES = [["", "never"], ["3600000", "in an hour"], ["86400000", "in a day"], ["2592000000", "in 30 days"], ["7776000000", "in 90 days"], ["31536000000", "in a year"]];
export const STRATEGIES = [["", "as the workspace"], "default", "fastest", "cheapest", "reliable"];

export function mount(root, context) {
  const list = table("Virtual keys", ["Name", "Key", "State", "Strategy", "Limits", "Created", "Expires", ["Spent, 30 days", "number"], "Actions"]);
  const put = rows(list.body, (key) => key.id, (key) => line(key, context, () => load()));
  const load = context.every(10_000, async () => {
    const [keys, spent] = await Promise.all([api("GET", context.at("/api-keys"), { signal: context.signal }), api("GET", context.at("/usage/by-key?days=30"), { signal: context.signal })]);
    const newest = [...keys].sort((left, right) => (left.created_at < right.created_at ? 1 : -1));
    put(newest.map((key) => ({ ...key, spent: spent[key.id]?.cost ?? 0 })), "No key yet. Applications need one to be served; create the first.");
  });
  context.heading.append(h("button", { type: "button", class: "primary", onclick: () => create(context, load) }, "Create a key"));
  root.append(list.node);
}

function stateOf(key) {
  if (key.revoked_at) return badge("revoked", "bad", `since ${moment(key.revoked_at)}`);
  if (key.expires_at && Date.parse(key.expires_at) <= Date.now()) return badge("expired", "warn");
  return badge("active", "good");
}

function limitsOf(key) {
  const given = LIMITS.filter(([name]) => key.limits[name] !== undefined);
  return given.length ? given.map(([name, text]) => `${text.toLowerCase()}: ${name.startsWith("usd") ? usd(key.limits[name]) : count(key.limits[name])}`).join(" · ") : "none";
}

function line(first, context, load) {
  let key = first;
  const cells = Array.from({ length: 7 }, (_, at) => h("td", { class: at === 6 ? "number" : at === 3 ? undefined : "when" }));
  const name = h("th", { scope: "row" });
  const revoke = button("Revoke", async () => {
    const sure = await confirm("Revoke this key?", `Whatever sends “${key.name}” (…${key.last_four}) is refused from then on. This can't be undone.`, "Revoke");
    if (!sure) return;
    await api("POST", context.at(`/api-keys/${key.id}/revoke`));
    toast("The key is revoked.");
    await load();
  }, { class: "danger" });
  const remove = button("Delete", async () => {
    const sure = await confirm("Delete this key?", `“${key.name}” (…${key.last_four}) is refused from then on and no longer listed. What it spent stays in the ledger.`, "Delete");
    if (!sure) return;
    await api("DELETE", context.at(`/api-keys/${key.id}`));
    toast("The key is gone.");
    await load();
  }, { class: "danger" });
  const node = h("tr", {}, name, cells, h("td", { class: "buttons" }, revoke, remove));
  return { node, update: (item) => {
    key = item;
    write(name, key.name);
    write(cells[0], `pk_…${key.last_four}`);
    show(cells[1], stateOf(key));
    write(cells[2], key.strategy ?? "–");
    write(cells[3], limitsOf(key));
    write(cells[4], moment(key.created_at));
    write(cells[5], key.expires_at ? moment(key.expires_at) : "never");
    write(cells[6], usd(key.spent));
    revoke.hidden = Boolean(key.revoked_at);
  } };
}

async function create(context, load) {
  const made = await dialog("Create a key", (close) => {
    const inputs = { name: h("input", { required: true, maxlength: "200", autocomplete: "off" }), strategy: select(STRATEGIES), expires_at: select(LIVES) };
    const fields = { name: field("Name", inputs.name, "For people: which application or person uses it."), strategy: field("Strategy", inputs.strategy), expires_at: field("Expires", inputs.expires_at) };
    const limits = LIMITS.filter(([name]) => name !== "max_in_flight").map(([name, text]) => {
      inputs[`limits.${name}`] = h("input", { type: "number", min: "0", step: name.startsWith("usd") ? "any" : "1", placeholder: "no limit" });
      return (fields[`limits.${name}`] = field(text, inputs[`limits.${name}`]));
    });
    const wrong = h("p", { class: "notice bad", role: "alert", hidden: true });
    const submit = h("button", { type: "submit", class: "primary" }, "Create");
    return h("form", { onsubmit: async (event) => {
      event.preventDefault();
      Object.values(fields).forEach((one) => one.complain(""));
      submit.disabled = true;
      try {
        close(await api("POST", context.at("/api-keys"), { body: wanted(inputs) }));
      } catch (error) {
        if (fields[error.param]) return fields[error.param].complain(error.message);
        write(wrong, error.message);
        wrong.hidden = false;
      } finally {
        submit.disabled = false;
      }
    } }, wrong, fields.name, fields.strategy, fields.expires_at, h("fieldset", {}, h("legend", {}, "Limits"), h("div", { class: "pairs" }, limits)),
    h("div", { class: "actions" }, h("button", { type: "button", onclick: () => close() }, "Cancel"), submit));
  });
  if (!made) return;
  await load();
  await once(made);
}

function wanted(inputs) {
  const body = { name: inputs.name.value.trim(), limits: {} };
  if (inputs.strategy.value) body.strategy = inputs.strategy.value;
  if (inputs.expires_at.value) body.expires_at = new Date(Date.now() + Number(inputs.expires_at.value)).toISOString();
  for (const [name, input] of Object.entries(inputs)) {
    if (name.startsWith("limits.") && input.value !== "") body.limits[name.slice(7)] = Number(input.value);
  }
  return body;
}

/** Shows a new key, this once. */
function once(made) {
  return dialog("The key is there", (close) => [
    h("p", {}, "Copy it now: the gateway keeps only a hash, so it can't be shown again."),
    h("p", {}, h("code", { class: "secret", tabindex: "0" }, made.key)),
    h("div", { class: "actions" }, button("Copy", () => copy(made.key), { class: "primary", autofocus: true }), h("button", { type: "button", onclick: () => close() }, "I have stored it")),
  ]);
}
