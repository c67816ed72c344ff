// The list of patients.

import { element, place, setText } from "./dom.js";
import { BY_ID, BY_NAME, RECENT, SEARCHED_AT_FIRST, matches } from "./patients.js";
import { ago, counted, daysBetween, exact, moment } from "./time.js";

/** How many rows are added at a time. */
const ROWS = 100;
/** How long a search waits for the next letter before its result is said, in milliseconds. */
const SAY_AFTER = 400;
/** Whoever has not moved for so long is not pointing at anything any more, in milliseconds. */
const RESTS_AFTER = 5_000;
/** The orders to choose from; the first one is what the address need not name. */
const ORDERS = [RECENT, BY_NAME, BY_ID];

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
  /** When somebody last moved there, where the pointer was, and what is done once it rests. */
  #movedAt = -Infinity;
  #pointer = "";
  #resting = null;

  /** `loadingFailed(error)` is told when further patients can't be loaded. */
  constructor(patients, loadingFailed) {
    this.#patients = patients;
    this.#loadingFailed = loadingFailed;
    for (const [key, title] of PARTS) {
      const heading = element("tr", { class: "part" }, element("th", { scope: "rowgroup", colspan: 3 }, title));
      this.#parts.set(key, { body: element("tbody"), heading });
    }
    $("search").addEventListener("input", () => this.#asked());
    for (const order of ORDERS) $(`order-${order}`).addEventListener("change", () => this.#asked());
    $("more").addEventListener("click", () => this.#more());
    $("further").addEventListener("click", () => this.#further());
    const table = $("patients");
    for (const event of ["pointerleave", "focusout"]) {
      table.addEventListener(event, () => setTimeout(() => this.#release()));
    }
    for (const event of ["focusin", "keydown"]) table.addEventListener(event, () => this.#moved());
    table.addEventListener("pointermove", ({ screenX, screenY }) => {
      // It is told, too, of rows that move away under a pointer that rests.
      const pointer = `${screenX} ${screenY}`;
      if (pointer !== this.#pointer) this.#moved();
      this.#pointer = pointer;
    });
    // The whole row leads to the patient, but its texts can be selected.
    table.addEventListener("click", ({ target }) => {
      const row = target.closest("tr[data-id]");
      if (row && !target.closest("a") && getSelection().isCollapsed) this.linkTo(row.dataset.id).click();
    });
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

  /** The same as JSON, relative to the page. */
  get resource() {
    return "patients";
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
    return ORDERS.find((order) => $(`order-${order}`).checked) ?? RECENT;
  }

  /**
   * Goes back to the order that the address names, and to the search that belongs to this entry of the history; or else
   * takes note there of how things are. A search is not in the address: it may be a name, and addresses are kept and shared.
   */
  restore() {
    const [before, query] = [this.#order, this.#query];
    const [, named] = location.hash.match(/^#order=(\w+)$/) ?? [];
    const search = history.state?.search;
    const order = ORDERS.find((order) => order === named) ?? (search === undefined ? before : RECENT);
    $(`order-${order}`).checked = true;
    if (search !== undefined) $("search").value = search;
    if (order !== before || query !== this.#query) this.#asked();
    else this.#note();
  }

  #note() {
    const order = this.#order === RECENT ? "" : `#order=${this.#order}`;
    history.replaceState({ search: $("search").value }, "", location.pathname + location.search + order);
  }

  #asked() {
    this.#note();
    this.#limit = ROWS;
    this.#searchTo = SEARCHED_AT_FIRST;
    this.#held = null;
    if (!this.#begun) return;
    this.render(new Date());
    this.#complete();
  }

  #more() {
    this.#limit += ROWS;
    this.#held = null;
    this.render(new Date());
    this.#complete();
  }

  #further() {
    this.#searchTo = this.#patients.size + SEARCHED_AT_FIRST;
    this.render(new Date());
    this.#complete();
  }

  /** Whether what is shown depends on all patients, in place of the next ones of an order that the API has. */
  get #isOfAll() {
    return this.#query !== "" || this.#order === BY_NAME;
  }

  /** Loads what the order, the search and the number of rows need. */
  async #complete() {
    if (this.#loading) return;
    const wanting = () =>
      this.#isOfAll
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
    if (Date.now() - this.#movedAt >= RESTS_AFTER) return false;
    const table = $("patients");
    return (
      (matchMedia("(hover: hover)").matches && table.querySelector("tbody:hover") !== null) ||
      document.activeElement?.matches("#patients a:focus-visible")
    );
  }

  #moved() {
    this.#movedAt = Date.now();
    clearTimeout(this.#resting);
    this.#resting = setTimeout(() => this.#release(), RESTS_AFTER + 50);
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
    $("held").hidden = this.#held === null;
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
        row.last.replaceChildren(element("time", { datetime: at, title: exact(new Date(at)) }), " ", element("span", { class: "exact" }));
        if (row.at !== undefined) flash(row.top);
      }
      setText(row.last.firstChild, ago(new Date(at), now));
      setText(row.last.lastChild, moment(new Date(at), now));
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
      const among = complete ? counted(known, "patient") : `the ${counted(known, "patient")} searched so far`;
      said = loading ? `Searching: ${counted(known, "patient")} so far` : `${found.toLocaleString("en-GB")} found, of ${among}`;
    } else if (this.#order === BY_NAME && !complete) {
      said = `${loading ? "Loading" : "By name among"} the ${counted(known, "patient")} loaded so far`;
    }
    $("further").hidden = loading || complete || !this.#isOfAll;
    setText($("further"), query ? "Search further" : "Load further");
    more.hidden = loading || (rows >= found && (complete || this.#isOfAll));
    if (!query && (rows < known || !complete)) extent = `${rows.toLocaleString("en-GB")} shown${complete ? ` of ${known.toLocaleString("en-GB")}` : "; there are more"}`;
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
