// The system under test: a real `local`, and a browser that looks at it.

import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const require = createRequire(`${process.env.BROWSER_TOOLS}/`);
export const { chromium } = require("playwright-core");
export const axe = require("axe-core");

/** The program `local`. */
export const PROGRAM = process.env.LOCAL;
/** How long anything may take on a busy machine, in milliseconds. */
export const PATIENCE = 60_000;

const ended = [];

/** Ends everything that was started, the last first. */
export async function endAll() {
  while (ended.length > 0) await ended.pop()();
}

/** Has something done at the end. */
export function atTheEnd(end) {
  ended.push(end);
}

/** A period of `--every` that does not begin anew within the next hour: so nobody checks in, whatever the time of day. */
export function never() {
  const hour = Date.now() / 3_600_000;
  const untilNext = (period) => period - (hour % period);
  return `${Array.from({ length: 24 }, (_, index) => 24 - index).find((period) => untilNext(period) > 1)}h`;
}

/** A temporary folder, removed at the end. */
export function folder() {
  const made = mkdtempSync(join(tmpdir(), "browser-"));
  atTheEnd(() => rmSync(made, { recursive: true, force: true, maxRetries: 5 }));
  return made;
}

/** A roster of so many patients: P-0001 "Patient 1", and so on. */
export function roster(patients) {
  const file = join(folder(), "roster.json");
  writeFileSync(file, JSON.stringify(patients));
  return file;
}

export function numbered(count) {
  return Array.from({ length: count }, (_, index) => {
    const number = String(index + 1).padStart(4, "0");
    return { id: `n-${number}`, name: `Number ${number}` };
  });
}

/** A running `local`, ready. */
export class System {
  constructor(child, printed) {
    this.child = child;
    this.url = printed.page;
    this.dynamodb = printed.dynamodb;
  }

  static async start(...options) {
    const port = options.includes("--port") ? [] : ["--port", "0"];
    const child = spawn(PROGRAM, [...port, ...options], { stdio: ["ignore", "pipe", "pipe"] });
    let errors = "";
    child.stderr.on("data", (text) => (errors += text));
    const over = new Promise((resolve) => child.once("exit", resolve));
    const printed = {};
    const ready = new Promise((resolve, reject) => {
      over.then(() => reject(new Error(`local has ended: ${errors}`)));
      createInterface(child.stdout).on("line", (line) => {
        const [label, value] = line.split(/\s+/);
        printed[label] = value;
        if (label === "logs") resolve();
      });
    });
    const system = new System(child, printed);
    system.over = over;
    atTheEnd(() => system.end("SIGTERM"));
    await ready;
    system.url = printed.page;
    system.dynamodb = printed.dynamodb;
    return system;
  }

  /** Ends it by a signal. */
  async end(signal) {
    this.child.kill(signal);
    await this.over;
  }

  /** A call of the embedded DynamoDB. */
  async dynamo(action, request) {
    const response = await fetch(this.dynamodb, {
      method: "POST",
      headers: {
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Target": `DynamoDB_20120810.${action}`,
        "X-Amz-Date": "20260101T000000Z",
        Authorization: "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0",
      },
      body: JSON.stringify(request),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(JSON.stringify(answer));
    return answer;
  }

  /** Appends an event that nobody can read to a patient's stream of one event. */
  async poison(patient) {
    const first = await this.dynamo("GetItem", {
      TableName: "checkin-events",
      Key: { patient_id: { S: patient }, version: { N: "1" } },
    });
    const event_id = { S: "00000000-0000-5000-8000-000000000000" };
    const data = { M: { checkin_id: { S: "broken" } } };
    const Item = { ...first.Item, version: { N: "2" }, event_id, event_type: { S: "PatientCheckedIn" }, data };
    await this.dynamo("PutItem", { TableName: "checkin-events", Item, ConditionExpression: "attribute_not_exists(version)" });
  }

  /** Waits until the API says what is wanted of `path`. */
  async until(path, isSo) {
    const deadline = Date.now() + PATIENCE;
    while (true) {
      const answer = await (await fetch(new URL(path, this.url))).json();
      if (isSo(answer)) return answer;
      if (Date.now() > deadline) throw new Error(`in vain: ${path} ${isSo}: ${JSON.stringify(answer)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

let browser = null;

/** A browser, the same for all tests. */
async function launched() {
  if (!browser) {
    browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
    atTheEnd(async () => {
      await browser.close();
      browser = null;
    });
  }
  return browser;
}

/** A page in a fresh browser profile, which notes what the console and the network say. `prepare(page)` goes before all. */
export async function visit(url, { prepare = () => {}, ...options } = {}) {
  const context = await (await launched()).newContext({
    viewport: { width: 1200, height: 900 },
    locale: "en-GB",
    timezoneId: "Europe/Berlin",
    ...options,
  });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  page.said = [];
  page.asked = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && page.said.push(message.text()));
  page.on("pageerror", (error) => page.said.push(String(error)));
  page.on("request", (request) => page.asked.push(request.url()));
  page.statuses = [];
  page.on("response", (response) => page.statuses.push([response.status(), response.url()]));
  await prepare(page);
  await page.goto(url);
  return page;
}

/** Whether it can't be scrolled sideways. */
export function fits(page) {
  return page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth);
}

/** Texts that run into one another, or out of where they belong, as the page is. */
export function collisions(page) {
  return page.evaluate(() => {
    const found = [];
    const texts = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const { data, parentElement } = walker.currentNode;
      if (!data.trim() || !parentElement.checkVisibility() || parentElement.closest(".unseen, .skip")) continue;
      const range = document.createRange();
      range.selectNodeContents(walker.currentNode);
      const card = parentElement.closest(".card")?.getBoundingClientRect();
      for (const { left, right, top, bottom } of range.getClientRects()) {
        texts.push({ data, left: left + 1, right: right - 1, top: top + 1, bottom: bottom - 1 });
        if (card && (left < card.left || right > card.right)) found.push(`${data} is outside of its card`);
      }
    }
    texts.forEach((one, index) => {
      for (const other of texts.slice(index + 1)) {
        const apart = one.right <= other.left || other.right <= one.left || one.bottom <= other.top || other.bottom <= one.top;
        if (!apart && one.data !== other.data) found.push(`${one.data} runs into ${other.data}`);
      }
    });
    for (const element of document.querySelectorAll("main *")) {
      const isCut = getComputedStyle(element).overflowX !== "visible" && element.scrollWidth > element.clientWidth + 1;
      if (isCut && element.checkVisibility() && !element.matches(".unseen, input")) found.push(`${element.textContent} is cut off`);
    }
    return found;
  });
}

/** When it asked for patients, by its own clock, in milliseconds: however late it is looked at. */
export function askedAt(page) {
  return page.evaluate(() =>
    performance
      .getEntriesByType("resource")
      .filter(({ name }) => name.includes("/patients?"))
      .map(({ startTime }) => startTime),
  );
}

/** What axe finds wrong with the page as it is, in the light scheme and in the dark one. */
export async function violations(page) {
  await page.evaluate(axe.source);
  const before = await page.evaluate(() => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  const found = [];
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
    for (const { id, nodes } of violations) {
      found.push(`${colorScheme}: ${id}: ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join("; ")}`);
    }
  }
  await page.emulateMedia({ colorScheme: before });
  return found;
}

/** Waits until `isSo(page)` gives true. */
export async function until(what, isSo) {
  const deadline = Date.now() + PATIENCE;
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error(`in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export const rows = (page) => page.locator("#patients tr[data-id]");
export const ids = (page) => rows(page).evaluateAll((all) => all.map((row) => row.dataset.id));
export const stateOf = (page) => page.locator("#state-text").textContent();

/** Closes the page; nothing may have gone wrong in it. */
export async function closed(page, { expected = /^$/ } = {}) {
  const said = page.said.filter((text) => !expected.test(text));
  const origin = new URL(page.url()).origin;
  const elsewhere = page.asked.filter((url) => new URL(url).origin !== origin);
  // What a test answers in place of the API may be under way: with the page it ends, and is no failure of the test.
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.context().close();
  if (said.length > 0) throw new Error(`the console says: ${said.join("\n")}`);
  if (elsewhere.length > 0) throw new Error(`requests to other hosts: ${elsewhere.join("\n")}`);
}
