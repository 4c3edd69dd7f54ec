// What `with_gateway.py` prepared: tenants, replayed providers, and what each recording must look like to a client.

import { readFileSync } from "node:fs";

const prepared = JSON.parse(readFileSync(process.env.PERPETUO_STAGE, "utf8"));

export const { cells, image, png } = prepared;

/** The tenant of one client, with its replay. */
export function stageOf(client) {
  const stage = prepared.clients[client];
  return {
    ...stage,
    /** A key that can ask for this recording. */
    keyFor: (id) => (stage.keys[id].length > 1 ? stage.keys[id].shift() : stage.keys[id][0]),
    play: (...items) => post(`${stage.replay}/__play`, { items: items.map((item) => (typeof item === "string" ? { id: item } : item)) }),
    seen: async () => (await fetch(`${stage.replay}/__seen`)).json(),
  };
}

async function post(url, body) {
  const answer = await fetch(url, { method: "POST", body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}`);
}

/** JSON by value, or the text; no arguments at all are an empty object. */
export function loose(text) {
  try {
    return JSON.parse(text || "{}");
  } catch {
    return text;
  }
}

/** Whether a provider received the image, in its own form. */
export function sawImage(provider, body) {
  const parts = body.messages.at(-1).content;
  if (provider !== "anthropic") return parts.some((part) => part.image_url?.url === image);
  return parts.some((part) => part.type === "image" && part.source.type === "base64" && part.source.media_type === "image/png" && part.source.data === png);
}
