// Check-ins that arrive while somebody looks, and the pipeline that they come through.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { System, askedAt, closed, collisions, endAll, fits, ids, never, roster, rows, stateOf, until, violations, visit } from "./system.js";

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
  // At one moment: it changes while one looks.
  const { text, at, title } = await rows(page).first().locator(".last").evaluate((cell) => {
    const { dateTime, title } = cell.querySelector("time");
    return { text: cell.innerText, at: dateTime, title };
  });
  const [ago, exactly] = text.split("\n");
  assert.equal(ago, "just now");
  // The browser is in Berlin, the newest check-in not older than the one that it shows.
  const { lastCheckinAt } = await live.until(`patients/${ADA.id}`, () => true);
  assert.ok(new Date(lastCheckinAt) >= new Date(at), `${lastCheckinAt}, ${at}`);
  const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium", timeZone: "Europe/Berlin" });
  assert.equal(exactly, clock.format(new Date(at)));
  assert.match(at, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  assert.match(title, /^\w+day,? \d+ \w+ \d{4} at \d\d:\d\d:\d\d C?E/);
  assert.match(await page.locator("#patients .part").first().innerText(), /Today/);
  await closed(page);
});

test("a patient's timeline and chart grow while one looks", async () => {
  // Somebody with few check-ins, however long the other tests have taken.
  const system = await System.start("--every", "1s", "--roster", roster([ADA]));
  const page = await visit(`${system.url}#patient/${ADA.id}`);
  await page.getByRole("heading", { level: 1, name: ADA.name }).waitFor();
  const entries = page.locator(".entries li");
  await entries.first().waitFor();
  const before = await entries.count();
  const version = async () => Number((await page.locator(".facts").innerText()).match(/version ([\d,]+)/)[1].replaceAll(",", ""));
  const asOf = await version();
  await until("another is there", async () => (await entries.count()) > before);
  await until("and a later version", async () => (await version()) > asOf);
  assert.match(await page.locator(".day h3").first().innerText(), /^(Today|Yesterday)\s+\d+ check-ins?$/);
  await page.getByRole("img", { name: /check-ins?.* in a minute|check-ins? in the last 24 minutes/ }).locator("rect.bar").first().waitFor();
  await page.getByRole("link", { name: "All patients" }).click();
  await until("the list is back", () => page.locator("#list").isVisible());
  assert.equal(await page.title(), "Patient check-ins");
  await closed(page);
  await system.end("SIGTERM");
});

test("the picture says how many check-ins there were, neither more nor less, whatever is loaded", async () => {
  // 216 check-ins of the last half an hour, some of them far apart, as the API would tell them.
  const now = Date.parse("2026-11-24T12:00:20Z");
  const times = Array.from({ length: 216 }, (_, index) => now - 1_000 - Math.floor(index ** 1.4) * 970);
  const all = times.map((time, index) => ({ id: `c-${index}`, occurredAt: new Date(time).toISOString(), version: 217 - index }));
  const patient = { ...ADA, checkinCount: 216, lastCheckinAt: all[0].occurredAt, version: 217, quarantinedSince: null, staleSince: null };
  const page = await visit(`${live.url}#patient/${ADA.id}`, {
    prepare: async (page) => {
      await page.clock.setFixedTime(now);
      await page.route(`**/patients/${ADA.id}`, (route) => route.fulfill({ json: patient }));
      await page.route(`**/patients/${ADA.id}/checkins?*`, (route) => {
        const begin = Number(new URL(route.request().url()).searchParams.get("cursor") ?? 0);
        const checkins = all.slice(begin, begin + 100);
        return route.fulfill({ json: { patientId: ADA.id, checkins, nextCursor: begin + 100 < 216 ? String(begin + 100) : null } });
      });
    },
  });
  await page.getByText("As a table").click();
  const clock = (time) => new Date(time).toLocaleTimeString("en-GB", { timeZone: "Europe/Berlin" });
  // Every row of the table, and every bar, with the number that is true of that time.
  const check = async (loaded) => {
    const told = await page.locator("figure tbody tr").evaluateAll((all) => all.map((row) => [...row.cells].map((cell) => cell.textContent)));
    const bars = await page.locator("rect.bar title").allTextContents();
    assert.deepEqual(bars.toReversed(), told.map(([time, count]) => `${time}: ${count} check-in${count === "1" ? "" : "s"}`));
    const inFull = (text) => (text.length === 5 ? `${text}:00` : text);
    for (const [time, count] of told) {
      const [, from, to] = time.match(/^24 Nov, ([\d:]+) to ([\d:]+)$/);
      const known = times.filter((at) => clock(at) >= inFull(from) && clock(at) < inFull(to));
      assert.equal(Number(count), known.length, time);
    }
    assert.equal(told.reduce((sum, [, count]) => sum + Number(count), 0), loaded);
  };
  const caption = page.locator("figcaption");
  await until("the latest are told as such", async () =>
    (await caption.innerText()).startsWith(`The latest 100 of 216 check-ins, since ${clock(times[99])}, at most`));
  assert.match(await page.locator(".day h3").innerText(), /^Today\s+the latest 100 check-ins$/);
  // Nothing is drawn of the time before.
  const labels = await page.locator(".chart > text").allTextContents();
  assert.equal(labels[0], clock(times[99]).slice(0, 5));
  await check(100);
  const more = page.getByRole("button", { name: "Show earlier check-ins" });
  await more.click();
  await until("more are told", async () => (await caption.innerText()).startsWith(`The latest 200 of 216 check-ins, since ${clock(times[199])}`));
  await check(200);
  await more.click();
  await until("all are told", async () => (await caption.innerText()).startsWith("216 check-ins in the last 2 hours"));
  assert.match(await page.locator(".day h3").innerText(), /^Today\s+216 check-ins$/);
  await check(216);
  await closed(page);
});

test("what the picture tells of a patient who checks in all the time is what the API tells", async () => {
  await live.until("patients/a-1", (patient) => patient.checkinCount > 120);
  const page = await visit(`${live.url}#patient/${ADA.id}`);
  await page.locator(".entries li").first().waitFor();
  const seen = await page.evaluate(() => ({
    caption: document.querySelector("figcaption").textContent,
    version: Number(document.querySelector(".facts").textContent.match(/version ([\d,]+)/)[1].replaceAll(",", "")),
    counts: [...document.querySelectorAll("rect.bar title")].map((title) => Number(title.textContent.match(/: (\d+) check-in/)[1])),
    entries: document.querySelectorAll(".entries li").length,
  }));
  const [, latest, total, since] = seen.caption.match(/^The latest (\d+) of ([\d,]+) check-ins, since ([\d:]+)/);
  assert.equal(Number(total.replaceAll(",", "")), seen.version - 1, "all but the registration");
  assert.equal(Number(latest), seen.entries);
  assert.equal(seen.counts.reduce((sum, count) => sum + count), Number(latest));
  const oldest = seen.version - Number(latest) + 1;
  let answer = { nextCursor: "" };
  const known = [];
  while (answer.nextCursor !== null && !known.some(({ version }) => version <= oldest)) {
    const cursor = answer.nextCursor && `&cursor=${answer.nextCursor}`;
    answer = await (await fetch(new URL(`patients/a-1/checkins?limit=100${cursor}`, live.url))).json();
    known.push(...answer.checkins);
  }
  const { occurredAt } = known.find(({ version }) => version === oldest);
  assert.equal(since, new Date(occurredAt).toLocaleTimeString("en-GB", { timeZone: "Europe/Berlin" }));
  await closed(page);
});

test("earlier check-ins are loaded when they are asked for, each once", async () => {
  await live.until("patients/a-1", (patient) => patient.checkinCount > 120);
  const page = await visit(`${live.url}#patient/${ADA.id}`);
  const entries = page.locator(".entries li");
  await entries.first().waitFor();
  const earlier = page.getByRole("button", { name: "Show earlier check-ins" });
  await until("the first one is there", async () => {
    if (/version 2$/.test(await entries.last().innerText())) return true;
    if (await earlier.isEnabled()) await earlier.press("Enter");
    return false;
  });
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
  const { x, y } = await rows(page).first().boundingBox();
  let moves = 0;
  /** A little, within the row. */
  const move = () => page.mouse.move(x + 20 + (moves += 1) % 2, y + 10);
  await until("the other one is more recent, and not at the front", async () => {
    await move();
    return page.evaluate(() => {
      const [one, other] = [...document.querySelectorAll("#patients .last time")].map((time) => time.dateTime);
      return one < other && document.querySelector("#held").checkVisibility();
    });
  });
  assert.equal(await page.locator("#held").textContent(), "order held while you point here");
  await page.mouse.move(5, 5);
  const isRight = async () => {
    const times = await page.locator("#patients .last time").evaluateAll((all) => all.map((time) => time.dateTime));
    return times[0] >= times[1];
  };
  await until("the order is right again", isRight);
  assert.equal(await page.locator("#held").isVisible(), false);

  // A pointer that was left there is not pointing.
  await until("the order is held", async () => {
    await move();
    return page.locator("#held").isVisible();
  });
  const order = (await ids(page)).join();
  await until("another order is right", async () => (await ids(page)).join() !== order);
  assert.equal(await page.locator("#held").isVisible(), false);
  assert.ok(await page.locator("tbody:hover").count(), "the pointer is still there");
  await closed(page);
  await system.end("SIGTERM");
});

test("answers that take long are shown all the same, and change what is called live only when they stay out", async () => {
  const given = [];
  let held = false;
  const page = await visit(live.url, {
    prepare: (page) =>
      page.route("**/patients?*", async (route) => {
        await new Promise((resolve) => setTimeout(resolve, 1_500));
        if (held) return new Promise((resolve) => given.push(() => resolve(route.continue())));
        return route.continue();
      }),
  });
  const failed = [];
  page.on("requestfailed", (request) => request.url().includes("/patients?") && failed.push(request.url()));
  await rows(page).first().waitFor();
  for (let times = 0; times < 3; times += 1) {
    const before = await count(page);
    await until("it goes up", async () => (await count(page)) > before);
    assert.equal(await stateOf(page), "Live");
  }
  assert.deepEqual(failed, [], "nothing is given up for something newer");
  held = true;
  await until("it is not called live any more", async () => /^Last updated \d+ s ago$/.test(await stateOf(page)));
  held = false;
  given.forEach((give) => give());
  await until("it is live again", async () => (await stateOf(page)) === "Live");
  await closed(page);
});

test("however often somebody checks in, it asks every few seconds", async () => {
  const page = await visit(live.url);
  await rows(page).first().waitFor();
  await until("it has asked some times", async () => (await askedAt(page)).length >= 5);
  const times = await askedAt(page);
  const pauses = times.slice(1).map((at, index) => at - times[index]);
  // Somebody checks in every 300 ms; and when nothing happens, it asks every 5 s.
  assert.ok(pauses.every((pause) => pause > 2_000), pauses.join());
  assert.ok(pauses.some((pause) => pause < 4_900), pauses.join());
  await closed(page);
});

test("a pipeline in which nothing happens costs 304s, and the station tells only of what there is", async () => {
  const system = await System.start("--every", never());
  let asked = 0;
  let release;
  const released = new Promise((resolve) => (release = resolve));
  const page = await visit(system.url, {
    prepare: (page) =>
      page.route("**/patients?*", async (route) => {
        asked += 1;
        if (asked > 1) await released;
        await route.continue();
      }),
  });
  const api = page.locator(".flow li").last();
  await until("the answers are counted", async () => /API\s+\d+\s+answers to this page/.test(await api.innerText()));
  assert.doesNotMatch(await api.innerText(), /304/);
  release();
  const pipeline = () => page.statuses.filter(([, url]) => url.endsWith("/pipeline")).map(([status]) => status);
  await until("it was asked some times", () => pipeline().length >= 4);
  assert.ok(pipeline().includes(304), pipeline().join());
  await until("and so do the patients", async () => /\d+ unchanged \(304\)/.test(await api.innerText()));
  await closed(page);
  await system.end("SIGTERM");
});

test("no text runs into another, at any width", async () => {
  const page = await visit(live.url);
  await page.locator(".flow").waitFor();
  await until("there are numbers", async () => /Read model\s+[\d,]+/.test(await page.locator(".flow").innerText()));
  for (const width of [320, 390, 640, 700, 768, 780, 800, 900, 960, 1024, 1100, 1119, 1120, 1280, 1600]) {
    await page.setViewportSize({ width, height: 900 });
    await page.evaluate(() => document.querySelectorAll("details").forEach((details) => (details.open = true)));
    assert.deepEqual(await collisions(page), [], `${width} pixels`);
    assert.ok(await fits(page), `${width} pixels`);
  }
  await closed(page);
});

test("the patient is as wide as what is above", async () => {
  const page = await visit(`${live.url}#patient/${ADA.id}`);
  await page.locator(".entries li").first().waitFor();
  for (const width of [390, 780, 1200, 1600]) {
    await page.setViewportSize({ width, height: 900 });
    const [header, card] = await page.evaluate(() => [".state", ".timeline"].map((of) => document.querySelector(of).getBoundingClientRect().right));
    assert.ok(Math.abs(header - card) < 1, `${width} pixels: ${header}, ${card}`);
    assert.deepEqual(await collisions(page), [], `${width} pixels`);
  }
  await closed(page);
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
  await until("how long the projector takes", async () => /\d+ (m?s)\s.*0 quarantined/s.test(await station("Projector").innerText()));
  assert.match(await station("Stream").innerText(), /lag/);
  const events = page.locator(".latest tbody tr");
  await until("and how soon an event could be read", async () => /Checked in\s+a-1\s+\d+\s+[\d,]+ ms/.test(await events.last().innerText()));
  assert.match(await page.locator(".replay").innerText(), /Last replay\s+This is generation 1, the first/);
  assert.match(await page.locator(".replay code").innerText(), new RegExp(`--endpoint-url ${live.dynamodb}`));
  // By keyboard: the events move on.
  await events.first().locator("a").press("Enter");
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
  const system = await System.start("--every", never());
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

test("no accessibility rule is broken for a patient", async () => {
  const page = await visit(`${live.url}#patient/${ADA.id}`, { reducedMotion: "reduce" });
  await page.locator(".entries li").first().waitFor();
  await page.getByText("As a table").click();
  assert.deepEqual(await violations(page), []);
  assert.ok(await fits(page));
  await closed(page);
});

test("a server that goes away is noticed, and so is its return", async () => {
  const data = roster([ADA]).replace(/roster.json$/, "data");
  let system = await System.start("--every", never(), "--data", data);
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
  system = await System.start("--every", never(), "--data", data, "--port", port);
  // It may be back by itself already.
  await page.evaluate(() => dispatchEvent(new Event("online")));
  await until("it is live again", async () => (await stateOf(page)) === "Live");
  assert.equal(await page.locator("#notice").isVisible(), false);
  await closed(page, { expected: /ERR_CONNECTION_REFUSED|Failed to load resource|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/ });
});
