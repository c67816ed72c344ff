// The page as on AWS: under the path of a stage, with no pipeline to be watched; and the states that a healthy system
// does not show.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Front, emptyReadModel } from "./front.js";
import { System, closed, endAll, fits, never, rows, stateOf, until, violations, visit } from "./system.js";

/** What the console says of an answer that is an error, which it is here. */
const FAILED = /Failed to load resource/;

let system;
let front;

before(async () => {
  system = await System.start("--every", never());
  front = await Front.start(system);
});
after(endAll);

const problem = (status, title, headers = {}) => ({
  status,
  headers: { "Content-Type": "application/problem+json", ...headers },
  body: JSON.stringify({ type: "urn:problem:test", title, status, detail: "Ask again soon." }),
});

test("everything is found under the stage, with a slash at the end of the address and without", async () => {
  for (const url of [front.url, front.url.slice(0, -1)]) {
    const page = await visit(url);
    await rows(page).first().waitFor();
    await until("the address has its slash", () => page.url() === front.url);
    assert.ok(page.asked.every((asked) => asked.startsWith(front.url.slice(0, -1))), page.asked.join("\n"));
    await rows(page).first().locator("a").click();
    await page.getByRole("heading", { level: 1, name: "Ada Example" }).waitFor();
    await until("the address names the patient", () => page.url() === `${front.url}#patient/p-001`);
    await page.goBack();
    await until("the list is back", () => page.locator("#list").isVisible());
    assert.equal(await page.locator("#pipeline").isVisible(), false);
    assert.ok(!page.asked.some((asked) => asked.includes("pipeline")), "nothing is asked that is not there");
    await closed(page);
  }
});

test("a link to a patient shows that patient, and the back link leads to the list", async () => {
  const page = await visit(`${front.url}#patient/p-002`);
  await page.getByRole("heading", { level: 1, name: "Björn Exempel" }).waitFor();
  assert.match(await page.locator("#patient").innerText(), /No check-ins yet/);
  await page.getByRole("link", { name: "All patients" }).click();
  await rows(page).first().waitFor();
  await closed(page);
});

test("a patient that there is not is told so", async () => {
  const page = await visit(`${front.url}#patient/nobody`);
  await page.getByText("There is no such patient").waitFor();
  assert.equal(await page.getByRole("button", { name: "Try again" }).isVisible(), false);
  // The browser asks for the icon when it likes.
  const asked = () => page.asked.filter((url) => !url.includes("/assets/")).length;
  const before = asked();
  // Longer than until the first attempts after a failure: what is to be shown is that nothing happens.
  await new Promise((resolve) => setTimeout(resolve, 7_000));
  assert.equal(asked(), before, "it stays so");
  assert.deepEqual(await violations(page), []);
  await page.getByRole("link", { name: "All patients" }).click();
  await rows(page).first().waitFor();
  assert.equal(await page.locator("#notice").isVisible(), false);
  await closed(page, { expected: FAILED });
});

test("before anybody is registered the page says so, and shows them as soon as they are", async () => {
  const empty = await Front.start(system, { table: await emptyReadModel(system) });
  const page = await visit(empty.url);
  await page.getByText("Nobody has been registered yet").waitFor();
  assert.ok(await fits(page));
  assert.deepEqual(await violations(page), []);
  const { Items } = await system.dynamo("Scan", { TableName: "checkin-read-model" });
  for (const Item of Items) await system.dynamo("PutItem", { TableName: "checkin-read-model-empty", Item });
  await until("they are listed", async () => (await rows(page).count()) === 50);
  assert.equal(await page.locator("#nobody").isVisible(), false);
  await closed(page);
});

test("while it loads, it shows that it does", async () => {
  const page = await visit("about:blank");
  let answer;
  const held = new Promise((resolve) => (answer = resolve));
  await page.route("**/patients?*", async (route) => {
    await held;
    await route.continue();
  });
  await page.goto(front.url);
  await page.locator("#skeleton").waitFor();
  assert.equal(await stateOf(page), "Loading");
  assert.equal(await page.locator("#patients").getAttribute("aria-busy"), "true");
  assert.deepEqual(await violations(page), []);
  answer();
  await rows(page).first().waitFor();
  assert.equal(await page.locator("#skeleton").count(), 0);
  await closed(page);
});

test("an error is told in the words of the API, and the page tries again", async () => {
  front.instead = problem(503, "The data cannot be read at the moment", { "Retry-After": "1" });
  const page = await visit(front.url);
  await page.getByRole("alert").getByText("The data cannot be read at the moment").waitFor();
  assert.match(await page.getByRole("alert").innerText(), /Ask again soon\. This page tries again by itself\.\s+Try again/);
  assert.equal(await stateOf(page), "No data");
  assert.equal(await rows(page).count(), 0);
  assert.deepEqual(await violations(page), []);
  front.instead = null;
  await rows(page).first().waitFor();
  assert.equal(await stateOf(page), "Live");
  assert.equal(await page.locator("#notice").isVisible(), false);
  await closed(page, { expected: FAILED });
});

test("an answer that is not the API's is no data", async () => {
  front.instead = { status: 502, headers: { "Content-Type": "text/html" }, body: "<h1>Bad gateway</h1>" };
  const page = await visit(front.url);
  await page.getByText("The server answered with status 502").waitFor();
  front.instead = { status: 200, headers: { "Content-Type": "application/json" }, body: '{"patients":[{"id":' };
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByText("The answer cannot be read").waitFor();
  front.instead = null;
  // It tries again by itself, in a few seconds.
  await rows(page).first().waitFor();
  await closed(page, { expected: FAILED });
});

test("data that are known to be behind are shown as such", async () => {
  const patient = {
    id: "p-1", name: "Ada Example", checkinCount: 1, lastCheckinAt: "2026-11-20T09:00:00.000Z", version: 2,
    quarantinedSince: "2026-11-21T09:00:00.000Z", staleSince: "2026-11-24T09:00:00.000Z",
  };
  front.instead = {
    status: 200,
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ patients: [patient], nextCursor: null }),
  };
  const page = await visit(front.url);
  await page.getByText("What you see may be behind").waitFor();
  await until("the state says so", async () => (await stateOf(page)) === "Behind");
  assert.equal(await rows(page).count(), 1);
  assert.deepEqual(await violations(page), []);
  front.instead = null;
  await closed(page);
});

test("scripts and styles come from the page's own files, and nothing inline runs", async () => {
  const response = await fetch(front.url);
  const policy = response.headers.get("Content-Security-Policy");
  assert.match(policy, /default-src 'none'/);
  assert.match(policy, /require-trusted-types-for 'script'/);
  assert.doesNotMatch(policy, /unsafe|\*|data:|https?:/);
  const page = await visit(front.url);
  await rows(page).first().waitFor();
  const ran = await page.evaluate(() => {
    const script = document.createElement("script");
    try {
      script.textContent = "globalThis.ran = true";
      document.head.append(script);
    } catch {
      // That is what trusted types do.
    }
    return globalThis.ran === true;
  });
  assert.equal(ran, false);
  await page.context().close();
});
