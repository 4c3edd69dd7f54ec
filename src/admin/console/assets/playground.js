// A chat request as an application sends it, with what the gateway makes of it: who could serve it, who did, what came back, what
// it cost. The virtual key is kept by this page only, until it is left or reloaded.

import { api, ask } from "./api.js";
import { add, badge, button, field, h, select, show, toast, write } from "./dom.js";
import { count, ms, percent, usd } from "./format.js";
import { details } from "./logs.js";
import { STRATEGIES } from "./keys.js";

export const title = "Playground";

/** The key that was given last, by workspace, so that a look at the log does not lose it. */
const kept = new Map();

/** Forgets the keys, for whoever logs in next. */
export const forget = () => kept.clear();

const HOUR = 3_600_000;

export function mount(root, context) {
  const models = h("datalist", { id: "models" });
  const inputs = {
    key: h("input", { type: "password", autocomplete: "off", spellcheck: "false", placeholder: "pk_…", value: kept.get(context.workspace.id) ?? "" }),
    model: h("input", { list: "models", value: "gpt-4", autocomplete: "off", spellcheck: "false", required: true }),
    strategy: select([["", "as the key says"], ...STRATEGIES.slice(1)]),
    system: h("textarea", { rows: "2", placeholder: "optional" }),
    message: h("textarea", { rows: "4", required: true, value: "Say hello, and what you are." }),
    max_tokens: h("input", { type: "number", min: "1", placeholder: "no limit" }),
    stream: Object.assign(h("input", { type: "checkbox", id: "stream" }), { checked: true }),
  };
  const out = output();
  const page = { inputs, out, context };
  const listModels = () => suggest(inputs.key.value.trim(), models);
  inputs.key.addEventListener("change", () => {
    kept.set(context.workspace.id, inputs.key.value.trim());
    listModels();
  });
  const make = button("Create a key for an hour", async () => {
    const expires_at = new Date(Date.now() + HOUR).toISOString();
    const made = await api("POST", context.at("/api-keys"), { body: { name: "console playground", expires_at } });
    inputs.key.value = made.key;
    kept.set(context.workspace.id, made.key);
    toast("A key that expires in an hour is in place. It is among the keys, where you can revoke it.");
    listModels();
  });
  const stop = h("button", { type: "button", disabled: true, onclick: () => page.running?.abort() }, "Stop");
  const send = h("button", { type: "submit", class: "primary" }, "Send");
  const dry = button("Dry run", () => decide(page), { title: "Shows who would serve it; nothing is sent." });
  const keyField = field("Virtual key", inputs.key, "Kept by this page only; sent to this gateway only.");
  const form = h("form", { class: "ask", onsubmit: async (event) => {
    event.preventDefault();
    keyField.complain("");
    if (!inputs.key.value.trim()) return keyField.complain("Paste a virtual key, or create one for an hour.");
    page.running = new AbortController();
    context.signal.addEventListener("abort", () => page.running.abort());
    [send.disabled, stop.disabled] = [true, false];
    await Promise.all([chat(page), decide(page).catch(() => undefined)]);
    [send.disabled, stop.disabled] = [false, true];
  } },
  keyField, h("div", { class: "actions left" }, make),
  h("div", { class: "pairs" }, field("Model", inputs.model), field("Strategy", inputs.strategy)), models,
  field("System", inputs.system), field("Message", inputs.message),
  h("div", { class: "pairs" }, field("Most tokens", inputs.max_tokens), h("div", { class: "check" }, inputs.stream, h("label", { for: "stream" }, "Stream"))),
  h("div", { class: "actions left" }, send, stop, dry));
  add(root, [h("div", { class: "play" }, h("section", {}, h("h2", {}, "Request"), form), h("div", { class: "results" }, out.sections))]);
  listModels();
}

function output() {
  const out = { answer: h("div", { class: "answer", role: "log", "aria-live": "polite", "aria-label": "Answer" }), thought: h("div", { class: "thought", hidden: true }), facts: h("dl", { class: "facts" }), decision: h("div"), record: h("div") };
  show(out.answer, h("span", { class: "hint" }, "The answer appears here as it comes."));
  show(out.decision, h("p", { class: "empty" }, "Send, or do a dry run, to see who could serve the request."));
  out.sections = [
    h("section", {}, h("h2", {}, "Answer"), out.thought, out.answer, out.facts),
    h("section", {}, h("h2", {}, "Routing decision"), out.decision),
    h("section", {}, h("h2", {}, "In the log"), out.record),
  ];
  show(out.record, h("p", { class: "empty" }, "Its attempts, tokens and cost appear here once it is over."));
  return out;
}

async function suggest(key, models) {
  if (!key) return;
  const answer = await ask("GET", "models", key).catch(() => undefined);
  if (!answer?.ok) return;
  const listed = await answer.json();
  show(models, listed.data.map((model) => h("option", { value: model.id }, model.owned_by)));
}

function body({ inputs }) {
  const messages = [];
  if (inputs.system.value.trim()) messages.push({ role: "system", content: inputs.system.value });
  messages.push({ role: "user", content: inputs.message.value });
  const wanted = { model: inputs.model.value.trim(), messages };
  if (inputs.max_tokens.value) wanted.max_tokens = Number(inputs.max_tokens.value);
  if (inputs.stream.checked) Object.assign(wanted, { stream: true, stream_options: { include_usage: true } });
  return wanted;
}

function strategy({ inputs }) {
  return inputs.strategy.value ? { "x-perpetuo-route": inputs.strategy.value } : {};
}

/** Asks for the decision alone. */
async function decide(page) {
  const { out, context } = page;
  try {
    const told = await api("POST", context.at("/route"), { body: body(page), headers: strategy(page), signal: context.signal });
    show(out.decision, decision(told));
  } catch (error) {
    show(out.decision, h("p", { class: "notice bad" }, error.message));
    throw error;
  }
}

/** Three digits: what a score counts is the strategy's own affair, and only the order matters. */
function score(value) {
  return typeof value === "number" ? value.toLocaleString("en-US", { notation: value >= 1e5 ? "compact" : "standard", maximumSignificantDigits: 3 }) : "–";
}

function decision(told) {
  const heads = ["", "Provider", "Model", "Score", "Price in / out, 1M", "State", "First token", "Errors", "Why"];
  const price = (row) => (row.price ? `${usd(row.price.input)} / ${usd(row.price.output)}` : "unknown");
  const line = (row, place) => h("tr", { class: place ? undefined : "out" }, h("td", {}, place || "✕"), h("th", { scope: "row" }, row.provider), h("td", {}, row.model ?? "–"),
    h("td", { class: "number" }, score(row.score)), h("td", { class: "number" }, row.model ? price(row) : "–"), h("td", {}, row.state?.replace("_", " ") ?? "–"),
    h("td", { class: "number" }, ms(row.first_token_ms ?? undefined)), h("td", { class: "number" }, percent(row.error_rate)),
    h("td", {}, badge(row.reason, place === 1 ? "good" : place ? "plain" : "warn"), row.retry_after_ms ? ` for ${ms(row.retry_after_ms)}` : null));
  return [
    h("p", { class: "hint" }, `Strategy ${told.strategy}; a lower score is better. What is marked ✕ would not be asked.`),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Candidates" }, h("table", {}, h("caption", { class: "unseen" }, "Candidates in order"), h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col", class: /Score|Price|First|Errors/.test(head) ? "number" : undefined }, head)))),
      h("tbody", {}, told.candidates.map((row, at) => line(row, at + 1)), told.excluded.map((row) => line(row, 0))))),
  ];
}

/** Sends the request and shows what comes. */
async function chat(page) {
  const { inputs, out, context, running } = page;
  const run = { started: performance.now(), text: "", thought: "" };
  show(out.answer, h("span", { class: "hint" }, "waiting for the first token…"));
  show(out.facts);
  show(out.record, h("p", { class: "hint" }, "under way"));
  out.thought.hidden = true;
  try {
    const answer = await ask("POST", "chat/completions", inputs.key.value.trim(), { body: body(page), headers: strategy(page), signal: running.signal });
    run.status = answer.status;
    run.headers = [...answer.headers].filter(([name]) => /^(x-perpetuo-|x-request-id|x-ratelimit-|retry-after|content-type)/.test(name)).sort();
    run.id = answer.headers.get("x-request-id");
    if (answer.ok && answer.headers.get("content-type")?.startsWith("text/event-stream")) await read(answer, run, out);
    else whole(await answer.text(), run);
  } catch (error) {
    run.error ??= error.name === "AbortError" ? "Stopped." : "The connection broke before the answer was complete.";
  }
  run.took = performance.now() - run.started;
  finish(run, out);
  if (run.id && !context.signal.aborted) await record(run.id, page).catch((error) => show(out.record, h("p", { class: "notice bad" }, error.message)));
}

/** Server-sent events; each is one line of JSON here. */
async function read(answer, run, out) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) event(line.slice(5).trim(), run);
    if (run.text || run.thought) progress(run, out);
  }
  if (!run.complete) run.error ??= "The stream ended before it was complete.";
}

function event(text, run) {
  if (text === "[DONE]") {
    run.complete = true;
    return;
  }
  const chunk = JSON.parse(text);
  if (chunk.error) run.error = chunk.error.message;
  if (chunk.usage) run.usage = chunk.usage;
  for (const choice of chunk.choices ?? []) {
    const delta = choice.delta ?? {};
    run.text += delta.content ?? "";
    run.thought += delta.reasoning_content ?? "";
    for (const call of delta.tool_calls ?? []) run.text += `${call.function?.name ? `\n${call.function.name} ` : ""}${call.function?.arguments ?? ""}`;
    if (choice.finish_reason) run.finish = choice.finish_reason;
  }
  if (run.text || run.thought) run.first ??= performance.now() - run.started;
}

function whole(text, run) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    run.error = text || `status ${run.status}`;
    return;
  }
  if (value.error) {
    run.error = value.error.message;
    return;
  }
  const [choice] = value.choices ?? [];
  run.text = choice?.message?.content ?? JSON.stringify(choice?.message?.tool_calls ?? value, null, 2);
  run.thought = choice?.message?.reasoning_content ?? "";
  run.finish = choice?.finish_reason;
  run.usage = value.usage;
}

function progress(run, out) {
  write(out.answer, run.text);
  write(out.thought, run.thought);
  out.thought.hidden = !run.thought;
}

function finish(run, out) {
  progress(run, out);
  if (run.error) out.answer.append(h("p", { class: "notice bad", role: "alert" }, run.error));
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  show(out.facts, run.status && fact("Status", String(run.status)), run.first !== undefined && fact("First token", ms(run.first)), fact("Total", ms(run.took)),
    run.usage && fact("Tokens in / out", `${count(run.usage.prompt_tokens)} / ${count(run.usage.completion_tokens)}`), run.finish && fact("Finish", run.finish),
    (run.headers ?? []).map(([name, value]) => fact(name, value)));
}

/** What the ledger says of it. A success is there when its last byte comes, everything else a moment later. */
async function record(id, { out, context }) {
  for (let tries = 0; tries < 3; tries++) {
    const { logs } = await api("GET", context.at("/logs?limit=50&details=true"), { signal: context.signal });
    const row = logs.find((one) => one.request_id === id);
    if (row) {
      show(out.record, h("p", {}, `${count(row.tokens)} tokens, `, h("strong", {}, usd(row.cost)), `, ${row.attempts.length === 1 ? "one attempt" : `${row.attempts.length} attempts`}`), details(row));
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 400));
  }
  show(out.record, h("p", { class: "hint" }, "Not in the log of this workspace: a request that was refused at the door is not booked, and a key of another workspace books there."));
}
