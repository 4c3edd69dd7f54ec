// The shell: logging in and out, the workspace, and which view is shown. The address says both: `#/ws_…/view`.

import { api, expiry, session, token } from "./api.js";
import { field, h, select, show, toast, write } from "./dom.js";
import { moment } from "./format.js";
import * as keys from "./keys.js";
import * as live from "./live.js";
import * as logs from "./logs.js";
import * as overview from "./overview.js";
import * as playground from "./playground.js";
import * as providers from "./providers.js";
import * as spend from "./spend.js";

const VIEWS = { overview, providers, live, logs, spend, keys, playground };
const app = document.getElementById("app");

/** Ends whatever the view that is shown has started. */
let leave = new AbortController();
let alarm;
let state;

session.addEventListener("refused", () => logOut("The token has expired or is no longer accepted. Log in with another one."));
addEventListener("hashchange", () => state && route());

start();

async function start() {
  if (!token.get()) return logIn();
  try {
    await open();
  } catch (error) {
    if (token.get()) unreachable(error);
  }
}

async function open() {
  const [who, workspaces] = await Promise.all([api("GET", "console/session"), api("GET", "workspaces")]);
  state = { who, workspaces };
  const end = expiry(token.get());
  clearTimeout(alarm);
  const left = Math.max(0, end - Date.now());
  // A browser can't wait longer than this, and the gateway says so itself when a token has expired.
  if (left < 2 ** 31) alarm = setTimeout(() => logOut("The token has expired. Log in with another one."), left);
  route();
}

function logOut(why) {
  leave.abort();
  clearTimeout(alarm);
  token.forget();
  playground.forget();
  state = undefined;
  document.querySelectorAll("dialog").forEach((open) => open.close());
  logIn(why);
}

function unreachable(error) {
  show(app, h("main", { class: "gate" }, h("h1", {}, "Perpetuo"), h("p", { role: "alert" }, error.message),
    h("div", { class: "actions" },
      h("button", { type: "button", onclick: () => logOut() }, "Log out"),
      h("button", { type: "button", class: "primary", onclick: start }, "Try again"))));
}

function logIn(why) {
  document.title = "Log in – Perpetuo console";
  const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", required: true, name: "token" });
  const place = field("Admin token", input, "Kept in this tab until you log out or close it.");
  const enter = h("button", { class: "primary", type: "submit" }, "Log in");
  const form = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    const given = input.value.trim().replace(/^Bearer\s+/i, "");
    if (!/^[\x21-\x7e]+$/.test(given)) return place.complain("Paste a token.");
    enter.disabled = true;
    token.set(given);
    try {
      await open();
    } catch (error) {
      // A refused token has led back here already, with a new form.
      if (error.status === 401) return;
      token.forget();
      place.complain(error.message);
    } finally {
      enter.disabled = false;
    }
  } }, place, enter);
  show(app, h("main", { class: "gate" },
    h("h1", {}, logo(), "Perpetuo"),
    why && h("p", { class: "notice bad", role: "alert" }, why),
    form,
    h("p", { class: "hint" }, "Make a token where the gateway runs:"),
    h("pre", {}, "perpetuo token --role admin\nperpetuo token --role workspace --workspace ws_…")));
  input.focus();
}

function logo() {
  return h("img", { src: "icon.svg", alt: "", width: "22", height: "22" });
}

/** Shows what the address says, or the nearest that there is. */
function route() {
  const [, wanted, name] = location.hash.split("/");
  const workspace = state.workspaces.find((one) => one.id === wanted) ?? state.workspaces[0];
  const view = Object.hasOwn(VIEWS, name ?? "") ? name : "overview";
  if (!workspace) return withoutWorkspace();
  const right = `#/${workspace.id}/${view}`;
  if (location.hash !== right) history.replaceState(null, "", right);
  leave.abort();
  leave = new AbortController();
  frame(workspace, view);
}

function frame(workspace, name) {
  const view = VIEWS[name];
  const title = h("h1", { tabindex: "-1" }, view.title);
  const trouble = h("p", { class: "notice bad", role: "alert", hidden: true });
  const root = h("div", { class: "view" });
  document.title = `${view.title} – ${workspace.name} – Perpetuo console`;
  const main = h("main", { id: "main" }, h("div", { class: "heading" }, title), trouble, root);
  const skip = h("a", { class: "skip", href: "#main", onclick: (event) => {
    event.preventDefault();
    title.focus();
  } }, "Skip to the content");
  show(app, skip, bar(workspace, name), menu(workspace, name), main);
  const context = {
    workspace,
    who: state.who,
    workspaces: state.workspaces,
    signal: leave.signal,
    at: (path) => `workspaces/${encodeURIComponent(workspace.id)}${path}`,
    link: (other) => `#/${workspace.id}/${other}`,
    heading: main.firstChild,
    every: (wait, work) => repeat(wait, work, leave.signal, trouble),
  };
  app.querySelector("nav [aria-current]").scrollIntoView({ block: "nearest", inline: "nearest" });
  view.mount(root, context);
}

function bar(workspace, name) {
  const options = state.workspaces.map((one) => [one.id, one.name === one.id ? one.id : `${one.name} (${one.id.slice(0, 9)}…)`]);
  const chooser = select(options, { id: "workspace", value: workspace.id, onchange: () => { location.hash = `#/${chooser.value}/${name}`; } });
  const end = expiry(token.get());
  return h("header", { class: "top" },
    h("span", { class: "brand" }, logo(), "Perpetuo"),
    h("label", { for: "workspace", class: "unseen" }, "Workspace"), chooser,
    h("span", { class: "who" }, state.who.role === "admin" ? "admin" : "workspace", end && h("span", { class: "hint" }, ` until ${moment(end)}`)),
    h("button", { type: "button", onclick: () => logOut() }, "Log out"));
}

function menu(workspace, name) {
  return h("nav", { "aria-label": "Views" }, Object.entries(VIEWS).map(([key, view]) =>
    h("a", { href: `#/${workspace.id}/${key}`, "aria-current": key === name ? "page" : undefined }, view.title)));
}

/** Nothing can be shown without a workspace; an admin can make the first one here. */
function withoutWorkspace() {
  leave.abort();
  const admin = state.who.role === "admin";
  const name = h("input", { required: true, maxlength: "200", autocomplete: "off" });
  const place = field("Name", name);
  const make = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    try {
      const made = await api("POST", "workspaces", { body: { name: name.value.trim() } });
      state.workspaces = [made];
      location.hash = `#/${made.id}/providers`;
      toast("The workspace is there. Add a provider next.");
    } catch (error) {
      place.complain(error.message);
    }
  } }, place, h("button", { class: "primary", type: "submit" }, "Create the workspace"));
  show(app, h("main", { class: "gate" }, h("h1", {}, "No workspace"),
    h("p", {}, admin ? "Providers, keys and usage belong to a workspace. Create the first one."
      : "This token names no workspace that exists. Ask whoever runs the gateway for another one."),
    admin && make, h("button", { type: "button", onclick: () => logOut() }, "Log out")));
}

/** Runs `work` again and again, while the page is looked at, and says when it fails; what is shown stays. */
function repeat(wait, work, signal, trouble) {
  let timer;
  let turns = 0;
  const run = async () => {
    const turn = ++turns;
    // Whoever asks for a look at once takes over from the look that is under way.
    const next = () => { if (!signal.aborted && turn === turns) timer = setTimeout(run, wait); };
    if (document.hidden) return next();
    try {
      await work();
      if (!signal.aborted) trouble.hidden = true;
    } catch (error) {
      if (signal.aborted || error.name === "AbortError") return;
      write(trouble, `${error.message} What is shown may be out of date; it is tried again in ${Math.round(wait / 1000)} s.`);
      trouble.hidden = false;
    }
    next();
  };
  signal.addEventListener("abort", () => clearTimeout(timer));
  run();
  return () => {
    clearTimeout(timer);
    return run();
  };
}
