// A gateway as an operator runs it, with simulated providers behind it, its admin plane at an address of its own, and a browser.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const BINARY = process.env.PERPETUO_BIN;
const BROWSER = process.env.PERPETUO_CHROMIUM ?? "/usr/bin/chromium";
const PATIENCE = 30_000;
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const SECRET = "a console test's own secret, 32 bytes or more";

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** The simulated providers' base URLs, by provider, read from what `perpetuo simulate` prints. */
async function simulate() {
  const child = spawn(BINARY, ["simulate", "--openai", "127.0.0.1:0", "--groq", "127.0.0.1:0", "--anthropic", "127.0.0.1:0"], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  for await (const piece of child.stdout) {
    text += piece;
    if (text.includes("A model name")) break;
  }
  const urls = Object.fromEntries([...text.matchAll(/^(\w+)\s+(http\S+)$/gm)].map(([, name, url]) => [name, url]));
  return { child, urls };
}

/** Starts everything. `console: false` switches the console off. */
export async function start({ shared = false, console: switched = true } = {}) {
  const directory = mkdtempSync(join(tmpdir(), "perpetuo-console-"));
  const [data, admin] = [await freePort(), await freePort()];
  const config = join(directory, "perpetuo.toml");
  writeFileSync(config, `data_dir = ${JSON.stringify(join(directory, "data"))}
[server]
listen = "127.0.0.1:${data}"
[admin]
${shared ? "" : `listen = "127.0.0.1:${admin}"`}
console = ${switched}
[metrics]
enabled = false
[security]
allow_private_upstreams = ["127.0.0.1"]
[jwt]
hs256_secret = "${SECRET}"
`);
  const providers = await simulate();
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.endsWith("_API_KEY")));
  const gateway = spawn(BINARY, ["serve", "--config", config], { cwd: directory, env, stdio: ["ignore", "ignore", "inherit"] });
  const root = `http://127.0.0.1:${shared ? data : admin}`;
  const stage = {
    root,
    data: `http://127.0.0.1:${data}`,
    providers: providers.urls,
    token: (...args) => execFileSync(BINARY, ["token", "--config", config, ...args], { cwd: directory, env, encoding: "utf8" }).trim(),
    admin: async (method, path, body) => {
      const answer = await fetch(root + path, { method, headers: { authorization: `Bearer ${stage.adminToken}` }, body: body && JSON.stringify(body) });
      const value = await answer.json();
      if (!answer.ok) throw new Error(`${method} ${path}: ${JSON.stringify(value)}`);
      return value.data ?? value;
    },
    stop: async () => {
      for (const child of [gateway, providers.child]) {
        child.kill();
        if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
      }
      rmSync(directory, { recursive: true, force: true });
    },
  };
  await healthy(root, gateway);
  stage.adminToken = stage.token("--role", "admin");
  return stage;
}

async function healthy(root, child) {
  const end = Date.now() + PATIENCE;
  while (Date.now() < end) {
    if (child.exitCode !== null) throw new Error(`perpetuo serve ended with ${child.exitCode}`);
    if (await fetch(`${root}/health`).then((answer) => answer.ok, () => false)) return;
    // A port says nothing until it listens, so there is no event to wait for.
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("perpetuo serve was not healthy in time");
}

/** A page of a new browser profile, and everything it complained about. */
export async function browse() {
  const profile = mkdtempSync(join(tmpdir(), "perpetuo-browser-"));
  const context = await chromium.launchPersistentContext(profile, { executablePath: BROWSER, args: FLAGS, viewport: { width: 1280, height: 860 } });
  const page = context.pages()[0] ?? (await context.newPage());
  page.setDefaultTimeout(PATIENCE / 2);
  const complaints = [];
  const foreign = [];
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) complaints.push(message.text()); });
  page.on("pageerror", (error) => complaints.push(`${error.name}: ${error.message}`));
  page.on("request", (request) => foreign.push(request.url()));
  await page.addInitScript(() => addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`)));
  return { page, complaints, requests: foreign, close: async () => {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  } };
}
