// Elements from data. Text only ever becomes text: nothing here, or anywhere in the console, parses markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with properties and children. `on…` are listeners, everything else attributes; children are nodes or text. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for a part of a drawing. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  add(node, children);
  return node;
}

/** Appends nodes and texts; what is absent is left out. */
export function add(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
}

/** Puts these in the place of whatever the node holds. */
export function show(node, ...children) {
  node.replaceChildren();
  add(node, children);
  return node;
}

/** Writes a text only if it is another, so that a selection and a screen reader are left alone. */
export function write(node, text) {
  const wanted = text ?? "";
  if (node.textContent !== String(wanted)) node.textContent = wanted;
}

let labels = 0;

/** A labelled control, with a hint and a place for what is wrong with it. */
export function field(label, control, hint) {
  const id = `f${++labels}`;
  control.id = id;
  const wrong = h("span", { class: "wrong", id: `${id}-wrong`, role: "alert" });
  const help = hint && h("span", { class: "hint", id: `${id}-hint` }, hint);
  control.setAttribute("aria-describedby", `${hint ? `${id}-hint ` : ""}${id}-wrong`);
  const node = h("div", { class: "field" }, h("label", { for: id }, label), control, help, wrong);
  node.complain = (text) => {
    write(wrong, text);
    if (text) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  };
  return node;
}

/** A choice: `[value, text]` each, or a plain text for both. */
export function select(options, props = {}) {
  const { value, ...rest } = props;
  const node = h("select", rest, options.map((option) => {
    const [key, text] = Array.isArray(option) ? option : [option, option];
    return h("option", { value: key }, text);
  }));
  if (value !== undefined) node.value = value;
  return node;
}

/** A table with a head and an empty body, inside a box that scrolls sideways on narrow screens. */
export function table(caption, columns) {
  const body = h("tbody");
  const head = columns.map((column) => {
    const [text, kind] = Array.isArray(column) ? column : [column];
    return h("th", { scope: "col", class: kind }, text);
  });
  const node = h("table", {}, h("caption", { class: "unseen" }, caption), h("thead", {}, h("tr", {}, head)), body);
  return { node: h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, node), body, columns: columns.length };
}

/** Keeps a row for each item, in their order. A row stays the same element as long as its item is there, so that whatever has
 * the focus keeps it. `make(item)` gives `{ node, update(item) }`. */
export function rows(body, key, make) {
  const known = new Map();
  return (items, empty) => {
    const wanted = new Set(items.map(key));
    for (const [id, row] of known) {
      if (!wanted.has(id)) {
        row.node.remove();
        row.more?.remove();
        known.delete(id);
      }
    }
    body.querySelector(":scope > tr.empty")?.remove();
    let last = null;
    for (const item of items) {
      const id = key(item);
      if (!known.has(id)) known.set(id, make(item));
      const row = known.get(id);
      row.update(item);
      const next = last ? last.nextSibling : body.firstChild;
      if (next !== row.node) body.insertBefore(row.node, next);
      last = row.node;
      if (row.more?.isConnected) {
        if (last.nextSibling !== row.more) last.after(row.more);
        last = row.more;
      }
    }
    if (!items.length && empty) body.append(h("tr", { class: "empty" }, h("td", { colspan: "99" }, empty)));
  };
}

/** A dialog that is gone once it is closed. `build(close)` gives its content; resolves with what it was closed with. */
export function dialog(title, build) {
  return new Promise((resolve) => {
    const id = `d${++labels}`;
    let result;
    const node = h("dialog", { "aria-labelledby": id, onclose: () => {
      node.remove();
      resolve(result);
    } });
    const close = (value) => {
      result = value;
      node.close();
    };
    add(node, [h("h2", { id }, title), build(close)]);
    document.body.append(node);
    node.showModal();
  });
}

/** Asks before something is done that can't be undone. */
export function confirm(title, text, word) {
  return dialog(title, (close) => [
    h("p", {}, text),
    h("div", { class: "actions" },
      h("button", { type: "button", onclick: () => close(false), autofocus: true }, "Cancel"),
      h("button", { type: "button", class: "danger", onclick: () => close(true) }, word)),
  ]);
}

/** Says something that needs no answer. */
export function toast(text, kind = "good") {
  const node = h("div", { class: `toast ${kind}` }, text);
  const all = document.getElementById("toasts");
  [...all.children].filter((one, at, { length }) => one.textContent === text || at < length - 2).forEach((one) => one.remove());
  all.append(node);
  setTimeout(() => node.remove(), kind === "bad" ? 9000 : 4500);
}

/** A button that can't be pressed twice, and says so when its work fails. */
export function button(text, work, props = {}) {
  const node = h("button", { type: "button", ...props, onclick: async () => {
    if (node.getAttribute("aria-busy")) return;
    node.setAttribute("aria-busy", "true");
    try {
      await work(node);
    } catch (error) {
      if (error.name !== "AbortError") toast(error.message, "bad");
    } finally {
      node.removeAttribute("aria-busy");
    }
  } }, text);
  return node;
}

/** Puts a text into the clipboard. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied.");
  } catch {
    toast("The browser does not allow copying here; select the text and copy it by hand.", "bad");
  }
}

/** A word in a colour: good, warn, bad or plain. */
export function badge(text, kind = "plain", title) {
  return h("span", { class: `badge ${kind}`, title }, text);
}
