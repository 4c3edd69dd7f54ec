// The admin API, with the token of this tab. The token is kept by the tab's session storage and sent in a header, nowhere else.

const TOKEN = "perpetuo.token";
/** Everything is reached from where the page is, so that it works behind a path of a reverse proxy, too. */
const root = new URL("../", document.baseURI);

/** What went wrong, in words that can be shown. */
export class ApiError extends Error {
  constructor(status, error) {
    super(error?.message || `The gateway answered with status ${status}.`);
    this.status = status;
    this.code = error?.code;
    this.param = error?.param;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (text) => sessionStorage.setItem(TOKEN, text),
  forget: () => sessionStorage.removeItem(TOKEN),
};

/** When a token expires, in milliseconds since 1970; nothing if it does not say. Not a check: the gateway does that. */
export function expiry(text) {
  try {
    const claims = JSON.parse(atob(text.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return Number.isFinite(claims.exp) ? claims.exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}

/** Tells the page that the token is no longer accepted. */
export const session = new EventTarget();

async function send(method, path, { body, signal, headers } = {}) {
  const request = { method, signal, cache: "no-store", referrerPolicy: "no-referrer", headers: { authorization: `Bearer ${token.get() ?? ""}`, ...headers } };
  if (body !== undefined) {
    request.body = JSON.stringify(body);
    request.headers["content-type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(new URL(path, root), request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The gateway can't be reached." });
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  let told;
  try {
    told = JSON.parse(text).error;
  } catch {
    told = undefined;
  }
  const error = new ApiError(answer.status, told);
  if (answer.status === 401) session.dispatchEvent(new Event("refused"));
  throw error;
}

/** A call of the admin API; gives `data`, or the whole answer of those that have no envelope. */
export async function api(method, path, options) {
  const answer = await send(method, path, options);
  const value = await answer.json();
  return value?.success === true ? value.data : value;
}

/** A file of the admin API. */
export async function download(path, name) {
  const answer = await send("GET", path);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A request to the data plane as an application sends it, with a virtual key. The gateway serves it at the page's own address. */
export function ask(method, path, key, { body, signal, headers } = {}) {
  return fetch(new URL(`console/v1/${path}`, root), {
    method,
    signal,
    cache: "no-store",
    referrerPolicy: "no-referrer",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
}

/** A query string of what is given. */
export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}
