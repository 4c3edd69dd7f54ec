// The provider credentials of the workspace: how each is doing now, and adding, changing, testing and removing them.

import { api } from "./api.js";
import { add, badge, button, confirm, dialog, field, h, rows, select, show, table, toast, write } from "./dom.js";
import { count, ms, percent } from "./format.js";
import { spark } from "./plot.js";

export const title = "Providers";

const SEVERITY = ["closed", "slow_start", "half_open", "open"];
const BREAKER = { closed: ["closed", "good"], slow_start: ["slow start", "warn"], half_open: ["half-open", "warn"], open: ["open", "bad"] };
/** Numbers that a line remembers: two minutes at the pace of the page. */
const REMEMBERED = 60;

function worstBreaker(routes) {
  return routes.reduce((worst, route) => (SEVERITY.indexOf(route.breaker) > SEVERITY.indexOf(worst) ? route.breaker : worst), "closed");
}

/** Whether a credential can be asked, in one word. */
export function stateBadge(credential) {
  switch (credential.state) {
    case "disabled": return badge("disabled", "plain", "Switched off here; it takes no part.");
    case "unreadable": return badge("key unreadable", "bad", "The stored key can't be unsealed with this master key; give it again.");
    case "refused": return credential.refused === "quota"
      ? badge("quota used up", "bad", "The provider says that the quota or the money is used up. It is not asked again until the credential is changed.")
      : badge("key refused", "bad", "The provider refused the key. It is not asked again until the credential is changed.");
    case "cooling": return badge(`cooling ${ms(credential.cooling_ms)}`, "warn", "The provider answered 429.");
    default: break;
  }
  const breaker = worstBreaker(credential.routes);
  if (breaker === "closed") return badge("ready", "good");
  const [word, kind] = BREAKER[breaker] ?? [breaker, "plain"];
  const [some, all] = [credential.routes.filter((route) => route.breaker === breaker).length, credential.routes.length];
  return badge(all === 1 ? `breaker ${word}` : `${some} of ${all} breakers ${word}`, kind, "Models that failed too often are left alone for a while; see the routes of this credential.");
}

export function mount(root, context) {
  const list = table("Provider credentials", ["Provider", "State", ["First token p50", "number"], ["p95", "number"], ["Latency p50", "number"], ["p95", "number"], ["Errors", "number"], ["In flight", "number"], ["Priority", "number"], ["Weight", "number"], "Actions"]);
  let shown = [];
  const load = context.every(2000, async () => {
    const get = (path) => api("GET", context.at(path), { signal: context.signal });
    const [credentials, health] = await Promise.all([get("/providers"), get("/performance/live")]);
    const known = new Map(health.credentials.map((one) => [one.id, one]));
    shown = credentials.map((credential) => ({ ...credential, health: known.get(credential.id) ?? { state: "disabled", routes: [], in_flight: 0 } }));
    put(shown, "No credential yet, so nothing can be served. Add the first one with a key of your provider.");
  });
  const put = rows(list.body, (credential) => credential.id, (credential) => line(credential, context, load, list.columns));
  context.heading.append(h("button", { type: "button", class: "primary", onclick: () => edit(undefined, context, load) }, "Add a credential"));
  add(root, [
    list.node,
    h("p", { class: "hint" }, "As this process has measured: times over the last few hundred answers, errors over the last two minutes. Priority 1 comes first; equal priorities share by weight."),
  ]);
}

/** The slowest of the routes that are used, which is what somebody notices. */
function worst(routes, name) {
  const values = routes.map((route) => route[name]).filter((value) => value !== null && value !== undefined);
  return values.length ? Math.max(...values) : undefined;
}

function errorRate(routes) {
  const known = routes.filter((route) => route.error_rate !== null);
  const attempts = known.reduce((sum, route) => sum + route.attempts, 0);
  return attempts >= 0.05 ? known.reduce((sum, route) => sum + route.attempts * route.error_rate, 0) / attempts : undefined;
}

function line(credential, context, load, columns) {
  let now = credential;
  const cells = Array.from({ length: 8 }, () => h("td", { class: "number" }));
  const [state, line] = [h("td"), h("span")];
  const told = h("span", { class: "hint" });
  const routes = h("tbody");
  const id = `routes-${credential.id}`;
  const more = h("tr", { class: "more", id }, h("td", { colspan: columns }, routesTable(routes)));
  const open = h("button", { type: "button", class: "link", "aria-expanded": "false", "aria-controls": id, onclick: () => {
    const expand = !more.isConnected;
    if (expand) node.after(more); else more.remove();
    open.setAttribute("aria-expanded", String(expand));
  } }, credential.provider);
  const toggle = button("", async () => {
    await api("PUT", context.at(`/providers/${now.id}`), { body: { enabled: !now.enabled } });
    await load();
  });
  const actions = h("td", { class: "buttons" },
    button("Test", () => test(now, context), { title: "Asks the provider whether the key works; costs nothing." }),
    button("Edit", () => edit(now, context, load)), toggle,
    button("Delete", () => remove(now, context, load), { class: "danger" }));
  const node = h("tr", {}, h("th", { scope: "row" }, open, h("br"), told), state, cells.slice(0, 8), actions);
  const history = [];
  cells[0].append(h("span"), line);
  return { node, more, update: (item) => {
    now = item;
    const { health } = item;
    const first = worst(health.routes, "first_token_p50_ms");
    history.push(first ?? null);
    if (history.length > REMEMBERED) history.shift();
    write(told, `${item.id.slice(0, 10)}… · ${item.last_four ? `key …${item.last_four}` : "no key"}`);
    show(state, stateBadge(health));
    write(cells[0].firstChild, ms(first));
    show(line, history.some((value) => value !== history[0]) ? spark(history, "First token over the last two minutes") : null);
    write(cells[1], ms(worst(health.routes, "first_token_p95_ms")));
    write(cells[2], ms(worst(health.routes, "latency_p50_ms")));
    write(cells[3], ms(worst(health.routes, "latency_p95_ms")));
    write(cells[4], percent(errorRate(health.routes)));
    write(cells[5], count(health.in_flight));
    write(cells[6], count(item.priority));
    write(cells[7], count(item.weight));
    write(toggle, item.enabled ? "Disable" : "Enable");
    show(routes, health.routes.length ? health.routes.map(routeRow) : h("tr", { class: "empty" }, h("td", { colspan: "9" }, "No model was asked for here since the gateway started.")));
  } };
}

function routesTable(body) {
  const heads = ["Model", "Breaker", "First token p50", "p95", "Latency p50", "p95", "Per token", "Errors", "In flight"];
  return h("table", {}, h("caption", { class: "unseen" }, "Routes"), h("thead", {}, h("tr", {}, heads.map((head, at) => h("th", { scope: "col", class: at > 1 ? "number" : undefined }, head)))), body);
}

function routeRow(route) {
  const [word, kind] = BREAKER[route.breaker] ?? [route.breaker, "plain"];
  const until = route.probe_in_ms === null ? "" : `, ${ms(route.probe_in_ms)} left`;
  const cell = (text) => h("td", { class: "number" }, text);
  return h("tr", {}, h("th", { scope: "row" }, route.model), h("td", {}, badge(word + until, kind)),
    cell(ms(route.first_token_p50_ms)), cell(ms(route.first_token_p95_ms)), cell(ms(route.latency_p50_ms)), cell(ms(route.latency_p95_ms)),
    cell(ms(route.ms_per_token ?? undefined)), cell(percent(route.error_rate ?? undefined)), cell(count(route.in_flight)));
}

async function test(credential, context) {
  const result = await api("POST", context.at(`/providers/${credential.id}/test`));
  if (result.ok) toast(`${credential.provider}: the key works (${ms(result.latency_ms)}).`);
  else toast(`${credential.provider}: ${result.message ?? result.error ?? "the provider refused"}${result.status ? ` (status ${result.status})` : ""}`, "bad");
}

async function remove(credential, context, load) {
  const sure = await confirm("Delete this credential?", `Requests will no longer go to ${credential.provider} with the key …${credential.last_four}. The key is forgotten; what was billed stays in the log.`, "Delete");
  if (!sure) return;
  await api("DELETE", context.at(`/providers/${credential.id}`));
  toast("The credential is gone.");
  await load();
}

/** Adds a credential, or changes one. */
function edit(credential, context, load) {
  const fresh = !credential;
  return dialog(fresh ? "Add a credential" : `Change ${credential.provider} …${credential.last_four}`, (close) => {
    const inputs = controls(credential, context);
    const fields = {
      provider: field("Provider", inputs.provider),
      api_key: field("API key", inputs.api_key, fresh ? "Sealed when it is stored, and never shown again." : "Leave empty to keep the one that is stored."),
      base_url: field("Base URL", inputs.base_url, "Empty for the provider's own address."),
      priority: field("Priority", inputs.priority, "1 comes first."),
      weight: field("Weight", inputs.weight, "Share among equal priorities."),
      models: field("Models", inputs.models, "One a line: public name = name at the provider. Usually not needed."),
      options: field("Options", inputs.options, "A JSON object, for what a key alone can't say, such as {\"api_version\":\"…\"}."),
    };
    const wrong = h("p", { class: "notice bad", role: "alert", hidden: true });
    const submit = h("button", { type: "submit", class: "primary" }, fresh ? "Add" : "Save");
    return h("form", { onsubmit: async (event) => {
      event.preventDefault();
      Object.values(fields).forEach((one) => one.complain(""));
      wrong.hidden = true;
      submit.disabled = true;
      try {
        await save(credential, inputs, context);
        close();
        await load();
      } catch (error) {
        const place = fields[(error.param ?? "").split(".")[0]];
        if (place) place.complain(error.message);
        else {
          write(wrong, error.message);
          wrong.hidden = false;
        }
      } finally {
        submit.disabled = false;
      }
    } }, wrong, fields.provider, fields.api_key, fields.base_url, h("div", { class: "pairs" }, fields.priority, fields.weight), fields.models, fields.options,
    h("div", { class: "check" }, inputs.enabled, h("label", { for: "enabled" }, "Enabled")),
    h("div", { class: "actions" }, h("button", { type: "button", onclick: () => close() }, "Cancel"), submit));
  });
}

function controls(credential, context) {
  const models = Object.entries(credential?.models ?? {}).map(([name, upstream]) => `${name} = ${upstream}`).join("\n");
  const options = Object.keys(credential?.options ?? {}).length ? JSON.stringify(credential.options, null, 2) : "";
  const provider = select(context.who.providers.map((one) => one.name), { value: credential?.provider, disabled: Boolean(credential) });
  const base = h("input", { type: "url", value: credential?.base_url ?? "", autocomplete: "off", spellcheck: "false" });
  const hint = () => { base.placeholder = context.who.providers.find((one) => one.name === provider.value)?.base_url || "its own address is needed"; };
  provider.addEventListener("change", hint);
  hint();
  return {
    provider,
    api_key: h("input", { type: "password", autocomplete: "off", spellcheck: "false" }),
    base_url: base,
    priority: h("input", { type: "number", min: "1", max: "1000", value: credential?.priority ?? 1 }),
    weight: h("input", { type: "number", min: "1", max: "1000", value: credential?.weight ?? 1 }),
    models: h("textarea", { rows: "2", spellcheck: "false", value: models }),
    options: h("textarea", { rows: "2", spellcheck: "false", value: options }),
    enabled: Object.assign(h("input", { type: "checkbox", id: "enabled" }), { checked: credential?.enabled ?? true }),
  };
}

/** An error at one field, as the API would tell it. */
function mistake(param, message) {
  return Object.assign(new Error(message), { param });
}

async function save(credential, inputs, context) {
  const body = { priority: Number(inputs.priority.value), weight: Number(inputs.weight.value), enabled: inputs.enabled.checked };
  if (inputs.api_key.value) body.api_key = inputs.api_key.value.trim();
  const base = inputs.base_url.value.trim();
  if (base || credential) body.base_url = base || null;
  body.models = readModels(inputs.models.value);
  try {
    body.options = inputs.options.value.trim() ? JSON.parse(inputs.options.value) : {};
  } catch {
    throw mistake("options", "This is not JSON.");
  }
  if (credential) await api("PUT", context.at(`/providers/${credential.id}`), { body });
  else await api("POST", context.at("/providers"), { body: { provider: inputs.provider.value, ...body } });
  toast(credential ? "Saved." : "The credential is there. Test it to see whether its key works.");
}

function readModels(text) {
  const lines = text.split("\n").map((one) => one.trim()).filter(Boolean);
  return Object.fromEntries(lines.map((one) => {
    const at = one.indexOf("=");
    if (at < 1) throw mistake("models", `Expected “public name = name at the provider” in: ${one}`);
    return [one.slice(0, at).trim(), one.slice(at + 1).trim()];
  }));
}
