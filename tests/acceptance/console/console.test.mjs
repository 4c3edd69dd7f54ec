// The console in a real browser: one operator's walk from logging in to the bill, and what it must never do.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { browse, start } from "./stage.mjs";

const SHOTS = process.env.PERPETUO_SHOTS;
const CANARY = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>`;
/** A name of a model has no spaces. */
const MODEL = "<script>window.pwned=1</script>";
const PROVIDER_KEY = "sk-console-canary-0123456789";

let stage;
let browser;
let page;
let workspace;
let other;
let key;

before(async () => {
  stage = await start();
  workspace = (await stage.admin("POST", "/workspaces", { name: "shop" })).id;
  other = (await stage.admin("POST", "/workspaces", { name: CANARY })).id;
  browser = await browse();
  page = browser.page;
});

after(async () => {
  await browser?.close();
  await stage?.stop();
});

/** A look at the page in both colours and both widths, for people. */
async function shoot(name) {
  if (!SHOTS) return;
  mkdirSync(SHOTS, { recursive: true });
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    for (const width of [1280, 390]) {
      await page.setViewportSize({ width, height: width === 390 ? 844 : 860 });
      await page.screenshot({ path: join(SHOTS, `${name}-${colorScheme}-${width}.png`), fullPage: true });
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1280, height: 860 });
}

const go = async (view) => {
  await page.getByRole("navigation").getByRole("link", { name: view, exact: true }).click();
  await page.getByRole("heading", { level: 1, name: view }).waitFor();
};

async function logIn(token) {
  await page.goto(`${stage.root}/console/`);
  await page.getByLabel("Admin token").fill(token);
  await page.getByRole("button", { name: "Log in" }).click();
}

/** No narrow screen may have to be scrolled sideways as a whole. */
async function fits() {
  await page.setViewportSize({ width: 390, height: 844 });
  const [wide, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  await page.setViewportSize({ width: 1280, height: 860 });
  assert.ok(wide <= seen, `the page is ${wide} wide on a screen of ${seen}`);
}

async function named() {
  const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, select, textarea, a[href]")].filter((node) =>
    node.offsetParent && !node.labels?.length && !node.getAttribute("aria-label") && !node.textContent.trim()).map((node) => node.outerHTML));
  assert.deepEqual(nameless, [], "controls without a name");
}

test("a token that is wrong is refused, and nothing is kept of it", async () => {
  await page.goto(`${stage.root}/console/`);
  await shoot("login");
  await logIn("not.a.token");
  await page.getByRole("alert").filter({ hasText: "expired or is no longer accepted" }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  // The browser itself tells of the refusal.
  assert.deepEqual(browser.complaints.splice(0).filter((text) => !text.includes("401")), []);
});

test("an operator logs in and adds, tests and changes a credential", async () => {
  await logIn(stage.adminToken);
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await page.getByLabel("Workspace").selectOption(workspace);
  await page.getByText("No provider yet, so nothing can be served.").waitFor();
  await go("Providers");
  await page.getByText("No credential yet").waitFor();
  for (const provider of ["openai", "groq", "anthropic"]) {
    await page.getByRole("button", { name: "Add a credential" }).click();
    await page.getByRole("dialog").waitFor();
    await page.getByLabel("Provider", { exact: true }).selectOption(provider);
    await page.getByLabel("API key").fill(PROVIDER_KEY);
    await page.getByLabel("Base URL").fill(stage.providers[provider]);
    if (provider === "openai") await page.getByLabel("Models").fill("<b>model</b> = gpt-4o");
    if (provider === "groq") await shoot("credential");
    await page.getByRole("dialog").getByRole("button", { name: "Add", exact: true }).click();
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.locator("tbody th").getByRole("button", { name: provider, exact: true }).waitFor();
  }
  const row = page.getByRole("row").filter({ has: page.getByRole("button", { name: "openai", exact: true }) });
  await row.getByRole("button", { name: "Test" }).click();
  await page.getByText(/openai: the key works/).waitFor();
  await row.getByRole("button", { name: "Edit" }).click();
  assert.equal(await page.getByLabel("API key").inputValue(), "", "a stored key is never shown");
  await page.getByLabel("Priority").fill("5000");
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await page.locator("input:invalid").waitFor();
  await page.getByLabel("Priority").fill("3");
  await page.getByLabel("Options").fill("{not json");
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await page.getByText("This is not JSON.").waitFor();
  await page.getByLabel("Options").fill("");
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await row.getByRole("cell", { name: "3", exact: true }).waitFor();
  await row.getByRole("button", { name: "Disable" }).click();
  await row.getByText("disabled").waitFor();
  await row.getByRole("button", { name: "Enable" }).click();
  await row.getByText("ready").waitFor();
  const stored = await stage.admin("GET", `/workspaces/${workspace}/providers`);
  assert.deepEqual(stored.map(({ provider, priority }) => [provider, priority]).sort(), [["anthropic", 1], ["groq", 1], ["openai", 3]]);
});

test("a key is shown once, and serves", async () => {
  await go("Keys");
  await page.getByText("No key yet.").waitFor();
  await page.getByRole("button", { name: "Create a key" }).click();
  await page.getByLabel("Name").fill(CANARY);
  await page.getByLabel("Expires").selectOption({ label: "in a day" });
  await page.getByLabel("Requests per minute").fill("600");
  await page.getByLabel("Dollars per day").fill("2.5");
  await shoot("key");
  await page.getByRole("button", { name: "Create", exact: true }).click();
  key = await page.locator("code.secret").innerText();
  assert.match(key, /^pk_/);
  await page.getByRole("button", { name: "I have stored it" }).click();
  await page.locator("code.secret").waitFor({ state: "detached" });
  await page.getByText("requests per minute: 600 · dollars per day: $2.50").waitFor();
  assert.ok(!(await page.content()).includes(key), "the key is gone with its dialog");
  await shoot("keys");
});

test("the playground streams an answer and shows who was chosen, what came and what it cost", async () => {
  await go("Playground");
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByText("Paste a virtual key").waitFor();
  await page.getByLabel("Virtual key").fill(key);
  await page.getByLabel("Model").fill("gpt-4");
  await page.getByLabel("Strategy").selectOption("cheapest");
  const answer = page.getByRole("log", { name: "Answer" });
  await page.getByRole("button", { name: "Send" }).click();
  await answer.filter({ hasNotText: /appears here|waiting/ }).waitFor();
  await page.getByText("x-perpetuo-provider").waitFor();
  const decision = page.getByRole("region", { name: "Candidates" });
  assert.equal(await decision.locator("tbody tr").count(), 3);
  await page.getByText(/\d+ tokens, \$0\.\d+, (one attempt|\d attempts)/).waitFor();
  await page.getByText("Tokens in / out").waitFor();
  await shoot("playground");
  await page.getByLabel("Model").fill(MODEL);
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByText(/is not served by any enabled provider/).first().waitFor();
  await page.getByLabel("Model").fill("gpt-4");
  await page.getByLabel("Stream").uncheck();
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByText(/\d+ tokens, \$0\.\d+, (one attempt|\d attempts)/).waitFor();
  await page.getByRole("button", { name: "Create a key for an hour" }).click();
  await page.getByText("A key that expires in an hour is in place.").waitFor();
  assert.notEqual(await page.getByLabel("Virtual key").inputValue(), key);
  assert.equal(await page.evaluate(() => JSON.stringify(sessionStorage).includes("pk_")), false, "a virtual key is kept in memory only");
  // A 404 is told by the browser, too.
  assert.deepEqual(browser.complaints.splice(0).filter((text) => !text.includes("404")), []);
});

/** Requests of an application; the slow provider takes seconds for each. */
function busy(number, model = "openai/gpt-4o") {
  const body = JSON.stringify({ model, stream: true, messages: [{ role: "user", content: "Hello" }] });
  const ask = () => fetch(`${stage.data}/v1/chat/completions`, { method: "POST", headers: { authorization: `Bearer ${key}` }, body }).then((answer) => answer.text());
  return Promise.all(Array.from({ length: number }, ask));
}

test("requests are seen while they run and once they are over", async () => {
  await go("Live");
  await page.getByText("Nothing is under way.").waitFor();
  const running = busy(6);
  const now = page.getByRole("region", { name: "Requests under way" });
  await now.locator("tbody tr").nth(5).waitFor();
  await now.getByText(/^openai · gpt-4o/).first().waitFor();
  await now.getByText(CANARY).first().waitFor();
  await shoot("live");
  await running;
  await page.getByText("Nothing is under way.").waitFor();
  await page.getByRole("region", { name: "Requests that have just ended" }).getByText("200", { exact: true }).first().waitFor();
  await Promise.all([busy(10, "groq-fast"), busy(8, "gpt-4"), busy(4, "claude-v1"), busy(2, "<b>model</b>")]);
});

test("providers show how they do", async () => {
  await go("Providers");
  const row = page.getByRole("row").filter({ has: page.getByRole("button", { name: "openai", exact: true }) });
  await row.getByText(/\d (ms|s)/).first().waitFor();
  await row.getByRole("button", { name: "openai", exact: true }).click();
  await page.getByRole("rowheader", { name: "gpt-4o" }).waitFor();
  await row.getByRole("button", { name: "openai", exact: true }).focus();
  await page.getByRole("row", { name: /^gpt-4o closed/ }).waitFor();
  await busy(5, "anthropic/sim-500");
  const failing = page.getByRole("row").filter({ has: page.getByRole("button", { name: "anthropic", exact: true }) });
  await failing.getByText(/\d of \d breakers open/).waitFor();
  await failing.getByRole("button", { name: "anthropic", exact: true }).click();
  await page.getByRole("row", { name: /^sim-500 open, \d.* left/ }).waitFor();
  await shoot("providers");
  await go("Overview");
  await page.getByRole("img", { name: /attempts in the last hour/ }).waitFor();
  await shoot("overview");
});

test("the log is filtered, turned and opened", async () => {
  await go("Logs");
  const list = page.getByRole("region", { name: "Requests, newest first" });
  await page.getByText(/1–25 of \d+/).waitFor();
  await page.getByRole("button", { name: "Older" }).click();
  await page.getByText(/26–\d+ of \d+/).waitFor();
  await page.getByLabel("Status").selectOption("404");
  await page.getByRole("button", { name: "Apply" }).click();
  await page.getByText(/1–\d of \d$/).waitFor();
  await list.getByText(MODEL).first().waitFor();
  await page.getByLabel("Status").selectOption("422");
  await page.getByRole("button", { name: "Apply" }).click();
  await page.getByText("No request matches.").waitFor();
  await page.getByRole("button", { name: "Clear" }).click();
  await page.getByText(/1–25 of \d+/).waitFor();
  await page.getByLabel("Provider").selectOption("openai");
  await page.getByRole("button", { name: "Apply" }).click();
  await list.locator("tbody tr").first().getByRole("button", { name: /^Details of/ }).click();
  await page.getByRole("region", { name: "Attempts" }).getByRole("rowheader", { name: "openai" }).waitFor();
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "CSV" }).click()]);
  assert.equal(file.suggestedFilename(), "ledger.csv");
  await shoot("logs");
});

test("the plots and tables of spending say what the API says", async () => {
  await go("Spend");
  await page.getByRole("img", { name: /Cost by day and provider over 30 days, \$0\.\d+ in all/ }).waitFor();
  const usage = await stage.admin("GET", `/workspaces/${workspace}/usage?days=30`);
  const sums = page.locator("section").filter({ hasText: "By provider" }).locator("tbody tr");
  assert.equal(await sums.count(), Object.keys(usage.by_provider).length);
  assert.ok(await page.locator(".plot rect[class^=fill]").count() > 0);
  await page.locator("section").filter({ hasText: "By key" }).getByText(CANARY).waitFor();
  await page.getByLabel("Measure").selectOption("tokens");
  await page.getByRole("img", { name: /Tokens by day and provider/ }).waitFor();
  await page.getByLabel("Measure").selectOption("cost");
  await shoot("spend");
});

test("a revoked key is refused", async () => {
  await go("Keys");
  const row = page.getByRole("row").filter({ hasText: "<img" });
  await row.getByRole("button", { name: "Revoke" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await row.getByText("revoked", { exact: true }).waitFor();
  const [answer] = await busy(1);
  assert.match(answer, /invalid_api_key/);
});

test("every view fits a narrow screen, and every control has a name", async () => {
  for (const view of ["Overview", "Providers", "Live", "Logs", "Spend", "Keys", "Playground"]) {
    await go(view);
    await page.locator(".view").waitFor();
    await fits();
    await named();
  }
});

test("the views are reached and used by keyboard alone", async () => {
  await go("Overview");
  await page.reload();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "H1");
  await page.getByRole("navigation").getByRole("link", { name: "Keys" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Keys" }).waitFor();
  await page.getByRole("button", { name: "Create a key" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
});

test("names are text wherever they stand", async () => {
  await page.getByLabel("Workspace").selectOption(other);
  await page.waitForURL(new RegExp(other));
  await page.getByRole("heading", { name: "Keys" }).waitFor();
  assert.match(await page.title(), /<img/);
  const [pwned, planted] = await page.evaluate(() => [window.pwned, document.querySelectorAll("img[src=x]").length]);
  assert.deepEqual([pwned, planted], [undefined, 0]);
  const told = page.waitForEvent("console", (message) => message.text().startsWith("CSP:"));
  await assert.rejects(page.evaluate(() => { document.body.innerHTML = "<b>x</b>"; }), /Trusted/);
  assert.match((await told).text(), /require-trusted-types-for/);
  const others = browser.complaints.splice(0).filter((text) => !/Trusted|require-trusted-types-for/.test(text));
  assert.deepEqual(others, []);
});

test("the token is in no address and nothing came from elsewhere", async () => {
  assert.ok(browser.requests.length > 50);
  const strange = browser.requests.filter((url) => !url.startsWith(`${stage.root}/`) && !url.startsWith("blob:") && !url.startsWith("about:"));
  assert.deepEqual(strange, []);
  assert.ok(browser.requests.every((url) => !url.includes(stage.adminToken) && !url.includes("pk_") && !url.includes(PROVIDER_KEY)));
});

test("logging out forgets the token", async () => {
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByLabel("Admin token").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await page.reload();
  await page.getByLabel("Admin token").waitFor();
});

test("a tenant sees its own workspace and no other", async () => {
  await logIn(stage.token("--role", "workspace", "--workspace", workspace));
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  assert.deepEqual(await page.locator("#workspace option").evaluateAll((all) => all.map((one) => one.value)), [workspace]);
  await page.evaluate((id) => { location.hash = `#/${id}/keys`; }, other);
  await page.waitForURL(new RegExp(`${workspace}/keys`));
  await page.getByText("<img").first().waitFor();
  await page.getByRole("button", { name: "Log out" }).click();
});

test("a token that expires leads back to the door", async () => {
  await logIn(stage.token("--role", "admin", "--ttl", "3s"));
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await page.getByText("The token has expired.").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

test("the browser had nothing to complain about", () => {
  assert.deepEqual(browser.complaints, []);
});

test("on the shared address the console is the same, and switched off it is not there", async () => {
  const [shared, off] = await Promise.all([start({ shared: true }), start({ console: false })]);
  try {
    await page.goto(`${shared.root}/console/`);
    await page.getByLabel("Admin token").fill(shared.adminToken);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("heading", { name: "Overview" }).waitFor();
    for (const path of ["/console/", "/console/app.js", "/console/session", "/console/v1/models"]) {
      assert.equal((await fetch(off.root + path)).status, 404, path);
    }
    assert.equal((await fetch(`${shared.data}/console/v1/models`)).status, 401, "the playground's way asks for a key");
    assert.equal((await fetch(`${stage.data}/console/`)).status, 404, "the data plane has no console");
  } finally {
    await Promise.all([shared.stop(), off.stop()]);
  }
});
