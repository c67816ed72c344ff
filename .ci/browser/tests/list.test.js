// The list of patients, and how the page behaves as a whole.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { System, askedAt, closed, collisions, endAll, fits, ids, never, numbered, roster, rows, stateOf, until, violations, visit } from "./system.js";

/** Kilobytes of all that the first load takes, as it is sent. */
const FIRST_LOAD = 60;

const MARKUP = '<img src=x onerror="document.title=1">';
const LONG = "Maximiliana-Theodora von und zu Hohenmusterstein-Beispielhausen ".repeat(3).trim();

let system;
/** Of 253 patients. */
let crowd;

before(async () => {
  system = await System.start("--every", never());
  const others = [{ id: "x-1", name: MARKUP }, { id: "x-2", name: LONG }, { id: "q-1", name: "Quentin Quarantine" }];
  crowd = await System.start("--every", never(), "--roster", roster([...numbered(250), ...others]));
  await crowd.poison("q-1");
  await crowd.until("patients/q-1", (patient) => patient.quarantinedSince);
});
after(endAll);

async function listed(url, options) {
  const page = await visit(url, options);
  await rows(page).first().waitFor();
  // It comes a little later, and moves the rest.
  await page.locator("#pipeline summary").waitFor();
  return page;
}

/** No more than one request for patients before the page can be used; the next one is that of the regular refresh. */
async function askedOnce(page) {
  const [first, ...others] = await askedAt(page);
  assert.ok(others.every((at) => at > first + 4_000), others.join());
}

/** By keyboard: a pointer over the rows would hold them. A hidden button takes no key. */
const loadMore = (page) => page.locator("#more:visible").press("Enter");

const found = (page) => page.locator("#found").textContent();

test("everybody is listed from the first moment, as not checked in yet", async () => {
  const page = await listed(system.url);
  assert.equal(await page.title(), "Patient check-ins");
  assert.equal(await rows(page).count(), 50);
  assert.match(await rows(page).first().innerText(), /Ada Example\s+p-001\s+0\s+Not yet/);
  assert.match(await page.locator("#figures").innerText(), /Patients\s+50\s+Checked in today\s+0\s+Not checked in yet\s+50/);
  assert.equal(await page.locator("#patients").getAttribute("aria-busy"), "false");
  assert.equal(await page.locator("#more").isVisible(), false);
  await closed(page);
});

test("the first load is small, and is complete once the data are there", async () => {
  const bodies = [];
  const finished = [];
  const page = await visit("about:blank");
  const note = (request) => {
    finished.push(request.url());
    bodies.push(Promise.all([request.url(), request.sizes(), request.response().then((response) => response.allHeaders())]));
  };
  page.on("requestfinished", note);
  await page.goto(system.url);
  await rows(page).first().waitFor();
  await askedOnce(page);
  await page.fill("#search", "ada");
  await until("it was found", async () => (await rows(page).count()) === 1);
  await until("the pipeline is loaded, too", () => finished.some((url) => url.endsWith("/pipeline_view.js")));
  // The page goes on asking; what it asks from here on would be looked up in a page that may be closed by then.
  page.off("requestfinished", note);
  const loaded = await Promise.all(bodies);
  const sizes = loaded.map(([url, { responseBodySize, responseHeadersSize }]) => [new URL(url).pathname, responseBodySize + responseHeadersSize]);
  const total = sizes.reduce((sum, [, size]) => sum + size, 0);
  console.log(`first load: ${total} bytes in ${sizes.length} files`);
  assert.ok(sizes.length > 12 && sizes.every(([, size]) => size > 0), JSON.stringify(sizes));
  assert.ok(total < FIRST_LOAD * 1024, JSON.stringify(sizes));
  for (const [url, , headers] of loaded.filter(([url]) => url.includes("/assets/"))) {
    assert.match(headers["cache-control"], /immutable/, url);
  }
  await page.context().close();
});

test("a search finds by name and id, without the marks", async () => {
  const page = await listed(system.url);
  const check = async (query, expected, said) => {
    await page.fill("#search", query);
    await until(`${query} is found`, async () => (await found(page)) === said);
    assert.deepEqual(await ids(page), expected);
  };
  await check("jaroslaw", ["p-010"], "1 found, of 50 patients");
  await check("P-00", ["p-001", "p-002", "p-003", "p-004", "p-005", "p-006", "p-007", "p-008", "p-009"], "9 found, of 50 patients");
  await check("nobody", [], "0 found, of 50 patients");
  assert.match(await page.locator("#nobody").innerText(), /Nobody’s name or id has “nobody” in it\s+All patients were searched/);
  await page.fill("#search", "");
  await until("all are back", async () => (await rows(page).count()) === 50);
  await closed(page);
});

test("what has not changed costs a 304", async () => {
  const page = await listed(system.url);
  const answers = () => page.statuses.filter(([, url]) => url.includes("/patients?")).map(([status]) => status);
  await until("it was asked again", () => answers().length >= 3);
  assert.deepEqual(answers().slice(0, 3), [200, 304, 304]);
  assert.equal(await page.locator("#state-text").textContent(), "Live");
  await closed(page);
});

test("a hidden page does not ask", async () => {
  const page = await listed(system.url);
  const isHidden = (hidden) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  // The browser asks for the icon when it likes.
  const asked = () => page.asked.filter((url) => !url.includes("/assets/")).length;
  await isHidden(true);
  const before = asked();
  // Longer than the time between two refreshes: what is to be shown is that nothing happens.
  await new Promise((resolve) => setTimeout(resolve, 7_000));
  assert.equal(asked(), before);
  await isHidden(false);
  await until("it asks at once", () => asked() > before);
  await closed(page);
});

test("more are loaded when they are asked for, in either order, each once", async () => {
  const page = await listed(crowd.url);
  assert.equal(await rows(page).count(), 100);
  assert.match(await page.locator("#figures").innerText(), /Patients\s+100\+/);
  assert.match(await page.locator("#extent").textContent(), /100 shown; there are more/);
  await askedOnce(page);
  await page.getByText("By id", { exact: true }).click();
  await until("by id", async () => (await ids(page))[0] === "n-0001");
  assert.deepEqual(await ids(page), numbered(100).map(({ id }) => id));
  for (const count of [200, 253]) {
    await page.click("#more");
    await until(`${count} are shown`, async () => (await rows(page).count()) === count);
  }
  assert.equal(new Set(await ids(page)).size, 253);
  assert.equal(await page.locator("#more").isVisible(), false);
  assert.match(await page.locator("#figures").innerText(), /Patients\s+253\s/);
  await closed(page);
});

test("in order of names all are loaded, and sorted as people would", async () => {
  const page = await listed(crowd.url);
  await page.getByText("By name", { exact: true }).click();
  await until("all are there", async () => /Patients\s+253\s/.test(await page.locator("#figures").innerText()));
  assert.deepEqual((await ids(page)).slice(0, 3), ["x-1", "x-2", "n-0001"], "<, Maximiliana, Number 0001");
  assert.equal(await page.locator("#further").isVisible(), false);
  for (const count of [200, 253]) {
    await page.click("#more");
    await until(`${count} are shown`, async () => (await rows(page).count()) === count);
  }
  assert.equal((await ids(page)).at(-1), "q-1");
  await closed(page);
});

/** Answers in place of the API: from the patients that `patients()` gives at the time, who are in the order of their ids. */
function answering(patients) {
  return (page) =>
    page.route("**/patients?*", (route) => {
      const query = new URL(route.request().url()).searchParams;
      const place = ({ lastCheckinAt, id }) => `${lastCheckinAt ?? "-"}#${id}`;
      const latestFirst = (one, other) => (place(one) > place(other) ? -1 : 1);
      const all = query.get("sort") === "id" ? patients() : patients().toSorted(latestFirst);
      const begin = Number(query.get("cursor") ?? 0);
      const end = begin + Number(query.get("limit"));
      return route.fulfill({ json: { patients: all.slice(begin, end), nextCursor: end < all.length ? String(end) : null } });
    });
}

/** So many patients, none of whom has checked in. */
function everybody(total) {
  return numbered(total).map((patient) => ({ ...patient, checkinCount: 0, lastCheckinAt: null, version: 1, quarantinedSince: null, staleSince: null }));
}

test("a search and an order of names stop after a while, say so where one looks, and go on when told", async () => {
  const patients = everybody(2_150);
  const page = await visit(system.url, { prepare: answering(() => patients) });
  await rows(page).first().waitFor();
  const further = page.locator("#further");
  await page.fill("#search", "number 0001");
  await until("it stops", async () => (await found(page)) === "0 found, of the 2,000 patients searched so far");
  assert.match(await page.locator("#nobody").innerText(), /Not all patients were searched/);
  const [field, button] = await Promise.all([page.locator("#search").boundingBox(), further.boundingBox()]);
  assert.ok(button.y - (field.y + field.height) < 40, "beside the field");
  assert.equal(await further.innerText(), "Search further");
  await further.click();
  await until("all were searched", async () => (await found(page)) === "1 found, of 2,150 patients");
  assert.equal(await further.isVisible(), false);
  await closed(page);

  const other = await visit(`${system.url}#order=name`, { prepare: answering(() => patients) });
  await until("it stops", async () => (await found(other)) === "By name among the 2,000 patients loaded so far");
  await other.getByRole("button", { name: "Load further" }).click();
  await until("all are there", async () => /Patients\s+2,150\s/.test(await other.locator("#figures").innerText()));
  await until("nothing is said", async () => (await found(other)) === "");
  await closed(other);
});

test("whether the data are behind is told as the newest answer says it, however many were loaded before", async () => {
  const hourAgo = Date.now() - 3_600_000;
  const checkedIn = (patient, seconds) => ({ ...patient, checkinCount: 1, version: 2, lastCheckinAt: new Date(hourAgo + seconds * 1_000).toISOString() });
  let patients = everybody(150).map((patient, index) => checkedIn(patient, -index));
  const page = await visit(system.url, { prepare: answering(() => patients) });
  const refreshed = () => page.evaluate(() => dispatchEvent(new Event("online")));
  await rows(page).first().waitFor();
  await loadMore(page);
  await until("all are loaded", async () => (await rows(page).count()) === 150);

  // From now on the first page, which is the only one that is read again at once, is all of others than at first.
  patients = [...patients.slice(50).map((patient, index) => checkedIn(patient, 100 - index)), ...patients.slice(0, 50)];
  await refreshed();
  await until("others are in front", async () => (await ids(page))[0] === "n-0051");
  assert.equal(await stateOf(page), "Live");

  const behind = page.getByText("What you see may be behind");
  const since = (staleSince) => (patients = patients.map((patient) => ({ ...patient, staleSince })));
  since("2026-11-24T09:00:00.000Z");
  await refreshed();
  await behind.waitFor();
  await until("the state says so", async () => (await stateOf(page)) === "Behind");
  since(null);
  await refreshed();
  await behind.waitFor({ state: "hidden" });
  await until("it is live again", async () => (await stateOf(page)) === "Live");
  await closed(page);
});

test("a refresh that is under way while more are loaded does not forget them", async () => {
  let patients = everybody(250);
  let release = () => {};
  let released = null;
  const prepare = async (page) => {
    await answering(() => patients)(page);
    await page.route("**/patients?*", async (route) => {
      if (!route.request().url().includes("cursor")) await released;
      await route.fallback();
    });
  };
  const page = await visit(system.url, { prepare });
  await rows(page).first().waitFor();
  released = new Promise((resolve) => (release = resolve));
  const asked = page.waitForRequest((request) => request.url().includes("/patients?"));
  await page.evaluate(() => dispatchEvent(new Event("online")));
  await asked;
  await loadMore(page);
  await until("they are shown", async () => (await rows(page).count()) === 200);
  patients = [...patients.slice(0, -1), { ...patients.at(-1), name: "Renamed" }];
  release();
  await page.getByText("Renamed").waitFor();
  assert.equal(await rows(page).count(), 200);
  await closed(page);
});

test("what happens to somebody far behind is seen in the end, in whatever order they were loaded", async () => {
  for (const [order, last] of [["recent", "n-0001"], ["name", "n-0050"], ["id", "n-0050"]]) {
    let patients = everybody(250);
    const prepare = async (page) => {
      await page.clock.install();
      await answering(() => patients)(page);
    };
    const page = await visit(`${system.url}#order=${order}`, { prepare });
    await rows(page).first().waitFor();
    for (const count of [200, 250]) {
      await loadMore(page);
      await until(`${count} are shown`, async () => (await rows(page).count()) === count);
    }
    patients = patients.map((patient) => (patient.id === last ? { ...patient, quarantinedSince: new Date().toISOString() } : patient));
    const badge = page.locator(`tr[data-id=${last}] .badge`);
    // Once: what was under way is given up by that, since its time is over, too, and begun anew.
    await page.clock.fastForward("01:00");
    await badge.waitFor();
    await closed(page);
  }
});

test("the order and the search are still there after a reload, and a name is in no address", async () => {
  const page = await listed(system.url);
  await page.getByText("By id", { exact: true }).click();
  await page.fill("#search", "p-00");
  const isAsBefore = async () => {
    // The back link leads to the list as it is without an order; the list then takes note of the one that it has.
    await until("the address names the order", async () => page.url() === `${system.url}#order=id`);
    await until("they are found", async () => (await rows(page).count()) === 9);
    assert.equal(await page.inputValue("#search"), "p-00");
    assert.ok(await page.locator("#order-id").isChecked());
  };
  await isAsBefore();
  await page.reload();
  await isAsBefore();
  await rows(page).first().locator("a").click();
  await page.getByRole("heading", { level: 1, name: "Ada Example" }).waitFor();
  await page.reload();
  await page.getByRole("heading", { level: 1, name: "Ada Example" }).waitFor();
  await page.goBack();
  await isAsBefore();
  await rows(page).first().locator("a").click();
  await page.getByRole("link", { name: "All patients" }).click();
  await isAsBefore();
  await closed(page);
});

test("a row leads to its patient, and what is in it can be selected", async () => {
  const page = await listed(system.url);
  const row = rows(page).first();
  const id = await row.locator(".id").boundingBox();
  await page.mouse.move(id.x + 1, id.y + id.height / 2);
  await page.mouse.down();
  await page.mouse.move(id.x + id.width - 1, id.y + id.height / 2, { steps: 5 });
  await page.mouse.up();
  assert.equal(await page.evaluate(() => String(getSelection())), "p-001");
  assert.ok(await page.locator("#list").isVisible(), "selecting is not choosing");
  await row.locator(".count").click();
  await page.getByRole("heading", { level: 1, name: "Ada Example" }).waitFor();
  await closed(page);
});

test("the footer leads to what is shown, as JSON", async () => {
  const page = await listed(system.url);
  const target = () => page.getByRole("link", { name: "As JSON" }).evaluate((link) => link.href);
  assert.equal(await target(), `${system.url}patients`);
  await rows(page).first().locator("a").click();
  await page.getByRole("heading", { level: 1, name: "Ada Example" }).waitFor();
  assert.equal(await target(), `${system.url}patients/p-001`);
  assert.equal((await (await fetch(await target())).json()).name, "Ada Example");
  await closed(page);
});

test("a search looks through those that were not loaded yet, and says so", async () => {
  const page = await listed(crowd.url);
  await page.fill("#search", "number 0001");
  await until("all were searched", async () => (await found(page)) === "1 found, of 253 patients");
  assert.deepEqual(await ids(page), ["n-0001"]);
  await closed(page);
});

test("a name is text, whatever is in it", async () => {
  const page = await listed(crowd.url);
  await page.fill("#search", "onerror");
  await until("it is found", async () => (await ids(page)).join() === "x-1");
  assert.equal(await rows(page).locator("a").innerText(), MARKUP);
  await rows(page).locator("a").click();
  await page.getByRole("heading", { level: 1, name: MARKUP }).waitFor();
  assert.equal(await page.locator("main img").count(), 0);
  assert.equal(await page.title(), "x-1 · Patient check-ins");
  await closed(page);
});

test("a quarantined patient is shown as such, and why is explained", async () => {
  const page = await listed(crowd.url);
  await page.fill("#search", "quentin");
  await until("it is found", async () => (await ids(page)).join() === "q-1");
  assert.match(await rows(page).innerText(), /Quarantined/);
  assert.ok(await page.locator("#quarantine-explained").isVisible());
  assert.match(await page.locator("#figures").innerText(), /Quarantined\s+1/);
  await rows(page).locator("a").click();
  await page.getByText(/the next event of this patient can’t be applied/).waitFor();
  assert.match(await page.locator("#patient").innerText(), /as of version 1; later check-ins wait/);
  assert.match(await page.locator(".none").innerText(), /^None before the event/);
  assert.deepEqual(await violations(page), []);
  await closed(page);
});

test("it can be used by keyboard alone", async () => {
  const page = await listed(system.url);
  const press = (...keys) => keys.reduce((before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve());
  const focused = () => page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.id);
  await press("Tab");
  assert.equal(await focused(), "Skip to the content");
  await press("Enter");
  assert.equal(await focused(), "Patients");
  const reached = async (name) => {
    for (let tabs = 0; tabs < 40 && (await focused()) !== name; tabs += 1) await press("Tab");
    assert.equal(await focused(), name);
  };
  await reached("search");
  await page.keyboard.type("p-00");
  await until("they are found", async () => (await rows(page).count()) === 9);
  await reached("order-recent");
  await press("ArrowRight", "ArrowRight");
  assert.ok(await page.locator("#order-id").isChecked());
  await reached("Björn Exempel");
  const outline = (of) => of.evaluate((element) => getComputedStyle(element).outlineStyle);
  assert.equal(await outline(rows(page).nth(1)), "solid", "one sees where one is");
  await press("Enter");
  await page.getByRole("heading", { level: 1, name: "Björn Exempel" }).waitFor();
  await until("the heading has the focus", async () => (await focused()) === "Björn Exempel");
  const heading = page.locator("#patient-title");
  assert.equal(await outline(heading), "solid");
  assert.equal(await heading.evaluate((element) => getComputedStyle(element).textDecorationLine), "none", "it is no link");
  await page.goBack();
  await until("the link has the focus again", async () => (await focused()) === "Björn Exempel");
  assert.equal(await page.locator("#list").isVisible(), true);
  assert.equal(await rows(page).count(), 9, "the search is still there");
  await closed(page);
});

test("no accessibility rule is broken in the list", async () => {
  for (const url of [system.url, crowd.url]) {
    const page = await listed(url);
    await page.locator("#pipeline").waitFor();
    assert.deepEqual(await violations(page), []);
    await page.fill("#search", "q");
    await until("it was searched", async () => (await found(page)).includes("found"));
    assert.deepEqual(await violations(page), []);
    await closed(page);
  }
});

for (const width of [320, 390, 760, 1000]) {
  test(`nothing is wider than a screen of ${width} pixels`, async () => {
    const page = await listed(crowd.url, { viewport: { width, height: 800 } });
    await page.fill("#search", "x-2");
    await until("the long name is found", async () => (await ids(page)).join() === "x-2");
    await page.locator("#pipeline summary").waitFor();
    await page.evaluate(() => document.querySelectorAll("details").forEach((details) => (details.open = true)));
    assert.ok(await fits(page), "the list");
    assert.deepEqual(await collisions(page), []);
    await rows(page).locator("a").click();
    await page.getByRole("heading", { level: 1, name: LONG }).waitFor();
    assert.ok(await fits(page), "the patient");
    assert.deepEqual(await collisions(page), []);
    await closed(page);
  });
}
