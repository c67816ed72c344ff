// Check-ins that arrive while somebody looks, and the pipeline that they come through.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { System, closed, endAll, fits, ids, roster, rows, stateOf, until, violations, visit } from "./system.js";

const ADA = { id: "a-1", name: "Ada Example" };
const BOB = { id: "b-1", name: "Bob Beispiel" };

let live;

before(async () => {
  live = await System.start("--every", "300ms", "--roster", roster([ADA]));
});
after(endAll);

const count = async (page) => Number((await rows(page).first().locator(".count").innerText()).replaceAll(",", ""));

test("check-ins appear in the list while one looks", async () => {
  const page = await visit(live.url);
  await rows(page).first().waitFor();
  const before = await count(page);
  await until("it goes up", async () => (await count(page)) > before + 2);
  assert.match(await rows(page).first().innerText(), /just now/);
  const time = rows(page).locator("time");
  assert.match(await time.getAttribute("datetime"), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  assert.match(await time.getAttribute("title"), /^\w+day,? \d+ \w+ \d{4} at \d\d:\d\d:\d\d C?E/);
  assert.match(await page.locator("#patients .part").first().innerText(), /Today/);
  await closed(page);
});

test("a patient's timeline and chart grow while one looks", async () => {
  const page = await visit(`${live.url}#patient/${ADA.id}`);
  await page.getByRole("heading", { level: 1, name: ADA.name }).waitFor();
  const entries = page.locator(".entries li");
  await entries.first().waitFor();
  const before = await entries.count();
  const version = async () => Number((await page.locator(".facts").innerText()).match(/version ([\d,]+)/)[1].replaceAll(",", ""));
  const asOf = await version();
  await until("another is there", async () => (await entries.count()) > before);
  await until("and a later version", async () => (await version()) > asOf);
  assert.match(await page.locator(".day h3").first().innerText(), /^(Today|Yesterday)\s+\d+ check-ins?$/);
  const chart = page.getByRole("img", { name: /check-ins? in the last 24 minutes/ });
  assert.ok((await chart.locator("rect.bar").count()) >= 1);
  // The same as a table, for whoever can't see the bars.
  await page.getByText("As a table").click();
  const [said, inTable] = await page.evaluate(() => [
    parseInt(document.querySelector("figcaption").textContent, 10),
    [...document.querySelectorAll("figure tbody td")].reduce((sum, cell) => sum + Number(cell.textContent), 0),
  ]);
  assert.ok(said > 0);
  assert.equal(inTable, said);
  await page.getByRole("link", { name: "All patients" }).click();
  await until("the list is back", () => page.locator("#list").isVisible());
  assert.equal(await page.title(), "Patient check-ins");
  await closed(page);
});

test("earlier check-ins are loaded when they are asked for, each once", async () => {
  await live.until("patients/a-1", (patient) => patient.checkinCount > 120);
  const page = await visit(`${live.url}#patient/${ADA.id}`);
  const entries = page.locator(".entries li");
  await entries.first().waitFor();
  assert.match(await page.locator("figcaption").innerText(), /Earlier ones are not in the picture/);
  await page.getByRole("button", { name: "Show earlier check-ins" }).click();
  await until("the first one is there", async () => /version 2$/.test(await entries.last().innerText()));
  const versions = await entries.locator(".version").allInnerTexts();
  const numbers = versions.map((text) => Number(text.replace("version ", "").replaceAll(",", "")));
  assert.equal(new Set(numbers).size, numbers.length);
  assert.equal(numbers.length, numbers[0] - 1, "none is missing");
  assert.deepEqual(numbers, numbers.toSorted((one, other) => other - one));
  await closed(page);
});

test("whoever checks in moves to the front, but not away from under the pointer", async () => {
  const system = await System.start("--every", "1s", "--roster", roster([ADA, BOB]));
  const page = await visit(system.url);
  await until("both have checked in", async () => (await page.locator("#patients .last time").count()) === 2);
  const first = async () => (await ids(page))[0];
  for (const who of [ADA, BOB]) await until(`${who.name} is at the front`, async () => (await first()) === who.id);
  await rows(page).first().hover();
  const held = await first();
  await until("the other one is more recent", async () => {
    const times = await page.locator("#patients .last time").evaluateAll((all) => all.map((time) => time.dateTime));
    return times[0] < times[1];
  });
  assert.equal(await first(), held);
  assert.match(await page.locator("#extent").textContent(), /stays as it is while you point/);
  await page.mouse.move(5, 5);
  await until("the order is right again", async () => {
    const times = await page.locator("#patients .last time").evaluateAll((all) => all.map((time) => time.dateTime));
    return times[0] >= times[1];
  });
  await closed(page);
  await system.end("SIGTERM");
});

test("the pipeline shows what happens between an event and its view", async () => {
  const page = await visit(live.url);
  const station = (name) => page.locator(".flow li", { has: page.getByText(name, { exact: true }) });
  const number = async (name) => Number((await station(name).locator(".number").innerText()).replaceAll(",", ""));
  await until("the numbers are there", async () => (await number("Event table")) > 0);
  const appended = await number("Event table");
  await until("events go in", async () => (await number("Event table")) > appended);
  await until("and come out", async () => (await number("Read model")) > appended);
  assert.match(await station("Schedule").innerText(), /every 300 ms/);
  assert.match(await station("Projector").innerText(), /\d+ (m?s)\s.*0 quarantined/s);
  assert.match(await station("Stream").innerText(), /lag/);
  const events = page.locator(".latest tbody tr");
  assert.match(await events.last().innerText(), /Checked in\s+a-1\s+\d+\s+[\d,]+ ms/);
  assert.match(await page.locator(".replay").innerText(), /Last replay\s+This is generation 1, the first/);
  assert.match(await page.locator(".replay code").innerText(), new RegExp(`--endpoint-url ${live.dynamodb}`));
  await events.first().locator("a").click();
  await page.getByRole("heading", { level: 1, name: ADA.name }).waitFor();
  await closed(page);
});

test("a pipeline that could not be loaded is loaded with the next answer", async () => {
  let asked = 0;
  const page = await visit(live.url, {
    prepare: (page) =>
      page.route("**/pipeline_view.js", (route) => {
        asked += 1;
        return asked > 1 ? route.continue() : route.abort();
      }),
  });
  await page.locator("#pipeline").getByText("Event table").waitFor();
  assert.equal(asked, 2);
  await closed(page, { expected: /Failed to load resource/ });
});

test("the last replay is told", async () => {
  const system = await System.start("--every", "24h");
  const control = (UpdateExpression, ExpressionAttributeValues) =>
    system.dynamo("UpdateItem", {
      TableName: "checkin-read-model",
      Key: { pk: { S: "control" }, sk: { S: "control" } },
      UpdateExpression,
      ExpressionAttributeValues,
    });
  const page = await visit(system.url);
  const replay = page.locator(".replay");
  await replay.getByText("This is generation 1, the first").waitFor();
  await control("SET active_since = :at, latest = :two, building = :two, building_since = :at", {
    ":at": { S: new Date().toISOString() },
    ":two": { N: "2" },
  });
  await replay.getByText("Generation 2 is being built from the events, beside the one that you see (1)").waitFor();
  await control("REMOVE building, building_since");
  await replay.getByText(/^Rebuilt from all events as generation 1, which has been active since \d\d:\d\d:\d\d \(/).waitFor();
  await control("SET previous = :two", { ":two": { N: "2" } });
  await replay.getByText(/^Rolled back to generation 1/).waitFor();
  await closed(page);
  await system.end("SIGTERM");
});

for (const colorScheme of ["light", "dark"]) {
  test(`no accessibility rule is broken for a patient, ${colorScheme}`, async () => {
    const page = await visit(`${live.url}#patient/${ADA.id}`, { colorScheme, reducedMotion: "reduce" });
    await page.locator(".entries li").first().waitFor();
    await page.getByText("As a table").click();
    assert.deepEqual(await violations(page), []);
    assert.ok(await fits(page));
    await closed(page);
  });
}

test("a server that goes away is noticed, and so is its return", async () => {
  const data = roster([ADA]).replace(/roster.json$/, "data");
  let system = await System.start("--every", "24h", "--data", data);
  const port = new URL(system.url).port;
  const page = await visit(system.url);
  await rows(page).first().waitFor();
  await until("it is live", async () => (await stateOf(page)) === "Live");
  await system.end("SIGKILL");
  await page.getByText("The server cannot be reached").waitFor();
  assert.match(await stateOf(page), /^Last updated /);
  assert.equal(await rows(page).count(), 50, "what was there stays");
  assert.deepEqual(await violations(page), []);
  const asked = page.asked.length;
  await page.getByRole("button", { name: "Try again" }).click();
  await until("it is asked again", () => page.asked.length > asked);
  system = await System.start("--every", "24h", "--data", data, "--port", port);
  // It may be back by itself already.
  await page.evaluate(() => dispatchEvent(new Event("online")));
  await until("it is live again", async () => (await stateOf(page)) === "Live");
  assert.equal(await page.locator("#notice").isVisible(), false);
  await closed(page, { expected: /ERR_CONNECTION_REFUSED|Failed to load resource|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/ });
});
