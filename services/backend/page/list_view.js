// The list of patients.

import { element, place, setText } from "./dom.js";
import { BY_ID, RECENT, SEARCHED_AT_FIRST, matches } from "./patients.js";
import { ago, counted, daysBetween, exact } from "./time.js";

/** How many rows are added at a time. */
const ROWS = 100;
/** How long a search waits for the next letter before its result is said, in milliseconds. */
const SAY_AFTER = 400;

const $ = (id) => document.getElementById(id);

/** A list of all patients by one order, in parts that say what they have in common. */
const PARTS = [
  ["today", "Today"],
  ["yesterday", "Yesterday"],
  ["earlier", "Earlier"],
  ["never", "Not checked in yet"],
];

function partOf(patient, now) {
  if (patient.lastCheckinAt === null) return "never";
  const days = daysBetween(new Date(patient.lastCheckinAt), now);
  if (days <= 0) return "today";
  return days === 1 ? "yesterday" : "earlier";
}

export class ListView {
  #patients;
  #loadingFailed;
  #rows = new Map();
  #parts = new Map();
  #whole = element("tbody");
  #limit = ROWS;
  #searchTo = SEARCHED_AT_FIRST;
  #loading = null;
  #begun = false;
  #say = null;
  /** The order of the rows while somebody is pointing at them. */
  #held = null;

  /** `loadingFailed(error)` is told when further patients can't be loaded. */
  constructor(patients, loadingFailed) {
    this.#patients = patients;
    this.#loadingFailed = loadingFailed;
    for (const [key, title] of PARTS) {
      const heading = element("tr", { class: "part" }, element("th", { scope: "rowgroup", colspan: 3 }, title));
      this.#parts.set(key, { body: element("tbody"), heading });
    }
    $("search").addEventListener("input", () => this.#asked());
    for (const order of [RECENT, BY_ID]) $(`order-${order}`).addEventListener("change", () => this.#asked());
    $("more").addEventListener("click", () => this.#more());
    const table = $("patients");
    for (const event of ["pointerleave", "focusout"]) {
      table.addEventListener(event, () => setTimeout(() => this.#release()));
    }
  }

  get element() {
    return $("list");
  }

  get heading() {
    return $("list-title");
  }

  get title() {
    return "Patient check-ins";
  }

  get staleSince() {
    return this.#patients.staleSince;
  }

  /** The link to a patient, if it is there. */
  linkTo(id) {
    return this.#rows.get(id)?.link ?? null;
  }

  async refresh(now, signal) {
    const changed = await this.#patients.refresh(now, signal);
    const before = this.#begun;
    this.#begun = true;
    this.render(new Date());
    if (!before) this.#complete();
    return changed;
  }

  get #query() {
    return $("search").value.trim();
  }

  get #order() {
    return $("order-id").checked ? BY_ID : RECENT;
  }

  #asked() {
    this.#limit = ROWS;
    this.#searchTo = SEARCHED_AT_FIRST;
    this.#held = null;
    if (!this.#begun) return;
    this.render(new Date());
    this.#complete();
  }

  #more() {
    const rows = document.querySelectorAll("#patients tr[data-id]").length;
    if (this.#query && rows < this.#limit) this.#searchTo = this.#patients.size + SEARCHED_AT_FIRST;
    else this.#limit += ROWS;
    this.#held = null;
    this.render(new Date());
    this.#complete();
  }

  /** Loads what the order, the search and the number of rows need. */
  async #complete() {
    if (this.#loading) return;
    const wanting = () =>
      this.#query
        ? this.#patients.size < this.#searchTo
        : this.#patients.inOrder(this.#order).length < this.#limit;
    try {
      while (!this.#patients.complete && wanting()) {
        this.#loading = this.#patients.more(this.#order);
        this.render(new Date());
        await this.#loading;
      }
    } catch (error) {
      this.#loadingFailed(error);
    } finally {
      this.#loading = null;
      this.render(new Date());
    }
  }

  /** Whether somebody points at the rows, with a mouse or by the keyboard: then none may move away. */
  get #isPointedAt() {
    const table = $("patients");
    return (
      (matchMedia("(hover: hover)").matches && table.querySelector("tbody:hover") !== null) ||
      document.activeElement?.matches("#patients a:focus-visible")
    );
  }

  #release() {
    if (this.#held && !this.#isPointedAt) {
      this.#held = null;
      this.render(new Date());
    }
  }

  /** Shows what is known. */
  render(now) {
    if (!this.#begun) return;
    const all = this.#patients.all();
    const query = this.#query;
    const order = this.#order;
    let shown = query ? all.filter((patient) => matches(patient, query)) : this.#patients.inOrder(order);
    if (query) shown = sorted(shown, this.#patients.inOrder(order), order);
    const found = shown.length;
    shown = this.#hold(shown.slice(0, this.#limit));
    this.#renderRows(shown, order === RECENT && !query, now);
    this.#renderFigures(all, now);
    this.#renderNobody(all.length, found, query);
    $("quarantine-explained").hidden = !shown.some((patient) => patient.quarantinedSince);
    this.#renderExtent(all.length, shown.length, found, query);
  }

  /** The same patients in the order of before, as long as somebody points at them; who is new comes last. */
  #hold(shown) {
    if (!this.#isPointedAt) {
      this.#held = null;
      return shown;
    }
    this.#held ??= this.#rowsInPlace();
    const places = new Map(this.#held.map((id, index) => [id, index]));
    const placeOf = (patient) => places.get(patient.id) ?? Infinity;
    return shown.toSorted((one, other) => placeOf(one) - placeOf(other) || 0);
  }

  #rowsInPlace() {
    return [...document.querySelectorAll("#patients tr[data-id]")].map((row) => row.dataset.id);
  }

  #renderRows(shown, inParts, now) {
    const rows = shown.map((patient) => this.#row(patient, now));
    const table = $("patients");
    if (!inParts) {
      place(this.#whole, rows);
      place(table, [table.tHead, this.#whole]);
    } else {
      // Whoever is held in place stays in the part as well.
      const partOfRow = (patient, row) =>
        (this.#held?.includes(patient.id) && [...this.#parts].find(([, { body }]) => body.contains(row))?.[0]) || partOf(patient, now);
      const keys = shown.map((patient, index) => partOfRow(patient, rows[index]));
      const bodies = [];
      for (const [key, { body, heading }] of this.#parts) {
        const own = rows.filter((_, index) => keys[index] === key);
        if (own.length > 0) {
          place(body, [heading, ...own]);
          bodies.push(body);
        }
      }
      place(table, [table.tHead, ...bodies]);
    }
    table.setAttribute("aria-busy", "false");
  }

  /** The row of a patient, brought up to date. */
  #row(patient, now) {
    let row = this.#rows.get(patient.id);
    if (!row) {
      const link = element("a", { href: `#patient/${encodeURIComponent(patient.id)}` });
      const badge = element("span", { class: "badge", hidden: true }, "Quarantined");
      const count = element("td", { class: "count" });
      const last = element("td", { class: "last" });
      const id = element("span", { class: "id" }, patient.id);
      const top = element("tr", { "data-id": patient.id }, element("th", { scope: "row" }, link, " ", id, " ", badge), count, last);
      row = { top, link, badge, count, last, at: undefined };
      this.#rows.set(patient.id, row);
    }
    setText(row.link, patient.name);
    row.badge.hidden = !patient.quarantinedSince;
    setText(row.count, patient.checkinCount.toLocaleString("en-GB"));
    const at = patient.lastCheckinAt;
    if (at === null) {
      setText(row.last, "Not yet");
      row.last.classList.add("never");
    } else {
      if (row.at !== at) {
        row.last.classList.remove("never");
        row.last.replaceChildren(element("time", { datetime: at, title: exact(new Date(at)) }));
        if (row.at !== undefined) flash(row.top);
      }
      setText(row.last.firstChild, ago(new Date(at), now));
    }
    row.at = at;
    return row.top;
  }

  #renderFigures(all, now) {
    const some = this.#patients.complete ? "" : "+";
    const today = all.filter((patient) => partOf(patient, now) === "today").length;
    const never = all.filter((patient) => patient.lastCheckinAt === null).length;
    const quarantined = all.filter((patient) => patient.quarantinedSince).length;
    const figures = [
      ["Patients", `${all.length.toLocaleString("en-GB")}${some}`],
      ["Checked in today", `${today.toLocaleString("en-GB")}${some}`],
      ["Not checked in yet", `${never.toLocaleString("en-GB")}${some}`],
    ];
    if (quarantined > 0) figures.push(["Quarantined", `${quarantined}${some}`]);
    const list = $("figures");
    list.hidden = all.length === 0;
    if (list.children.length !== figures.length) {
      list.replaceChildren(
        ...figures.map(([name]) => element("div", { class: name === "Quarantined" && "amber" }, element("dt", {}, name), element("dd"))),
      );
    }
    figures.forEach(([, value], index) => setText(list.children[index].lastChild, value));
  }

  #renderNobody(known, found, query) {
    const nobody = $("nobody");
    nobody.hidden = found > 0 || this.#loading !== null;
    $("patients").hidden = found === 0;
    if (nobody.hidden) return;
    const [title, text] =
      known === 0
        ? ["Nobody has been registered yet", "As soon as somebody is, they are listed here. This page looks by itself."]
        : [`Nobody’s name or id has “${query}” in it`, this.#patients.complete ? "All patients were searched." : "Not all patients were searched."];
    if (nobody.firstChild?.textContent === title && nobody.lastChild.textContent === text) return;
    nobody.replaceChildren(element("p", { class: "nobody-title" }, title), element("p", {}, text));
  }

  #renderExtent(known, rows, found, query) {
    const { complete } = this.#patients;
    const loading = this.#loading !== null;
    const more = $("more");
    let said = "";
    let extent = "";
    if (query) {
      const among = complete ? `all ${counted(known, "patient")}` : `${counted(known, "patient")} so far`;
      said = loading ? `Searching: ${among}` : `${found.toLocaleString("en-GB")} found, of ${complete ? counted(known, "patient") : among}`;
      more.hidden = loading || (complete && rows >= found);
      setText(more, rows < found ? "Show more" : "Search further");
    } else {
      more.hidden = loading || (complete && rows >= known);
      setText(more, "Show more");
      if (rows < known || !complete) extent = `${rows.toLocaleString("en-GB")} shown${complete ? ` of ${known.toLocaleString("en-GB")}` : "; there are more"}`;
    }
    if (this.#held) extent = "The order stays as it is while you point at the list.";
    setText($("extent"), loading ? "Loading…" : extent);
    clearTimeout(this.#say);
    // Nothing is said of each letter.
    this.#say = setTimeout(() => setText($("found"), said), query && !loading ? SAY_AFTER : 0);
  }
}

/** Those found: first those whose place in the order is known, then the others. */
function sorted(found, inOrder, order) {
  const places = new Map(inOrder.map((patient, index) => [patient.id, index]));
  const placeOf = (patient) => places.get(patient.id) ?? Infinity;
  const otherwise = (one, other) =>
    order === RECENT && one.lastCheckinAt !== other.lastCheckinAt
      ? ((one.lastCheckinAt ?? "") > (other.lastCheckinAt ?? "") ? -1 : 1)
      : one.id < other.id ? -1 : 1;
  return found.sort((one, other) => {
    const [at, otherAt] = [placeOf(one), placeOf(other)];
    return at === otherAt ? otherwise(one, other) : at - otherAt;
  });
}

/** Shows for a moment that something is new. */
export function flash(of) {
  of.classList.remove("new");
  // The animation begins anew only if the style was without it for a moment.
  void of.getBoundingClientRect();
  of.classList.add("new");
}
