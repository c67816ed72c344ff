// One patient: who it is, how often and when they checked in.

import { chart } from "./chart.js";
import { element, place, setText } from "./dom.js";
import { flash } from "./list_view.js";
import { ago, clockWithSeconds, counted, dayName, exact, midnight } from "./time.js";

const PAGE = 100;
const NONE_YET = "No check-ins yet. The first one appears here by itself.";

export class PatientView {
  #api;
  #id;
  #loadingFailed;
  #say;
  #patient = null;
  /** When the last refresh was begun: of what was later, nothing is known. */
  #asOf = null;
  /** The check-ins that have been loaded, by version. */
  #checkins = new Map();
  /** The cursor of the page after; `null` if there is none. */
  #next = null;
  #loading = false;
  #days = new Map();
  #entries = new Map();
  #chartKey = null;
  #parts;

  /** `say(text)` has a text read aloud. */
  constructor(api, id, loadingFailed, say) {
    this.#api = api;
    this.#id = id;
    this.#loadingFailed = loadingFailed;
    this.#say = say;
    this.#parts = parts(id);
    this.element.replaceChildren(...this.#parts.all);
    this.#parts.more.addEventListener("click", () => this.#more());
    this.#observer.observe(this.#parts.drawing);
  }

  #observer = new ResizeObserver(() => this.#patient && this.#renderChart());

  get element() {
    return document.getElementById("patient");
  }

  get id() {
    return this.#id;
  }

  get heading() {
    return this.#parts.heading;
  }

  /** The same as JSON, relative to the page. */
  get resource() {
    return `patients/${encodeURIComponent(this.#id)}`;
  }

  /** Without the name: titles get into the browser's history, and that is no place for names of patients. */
  get title() {
    return `${this.#id} · Patient check-ins`;
  }

  get staleSince() {
    return this.#patient?.staleSince ?? null;
  }

  close() {
    this.#observer.disconnect();
    this.element.replaceChildren();
  }

  async refresh(now, signal) {
    const patient = await this.#api.get(this.resource, signal);
    // Asked for afterwards, so that none is missing that the patient's count includes.
    const first = await this.#api.get(`${this.resource}/checkins?limit=${PAGE}`, signal);
    const before = this.#patient;
    this.#patient = patient.body;
    this.#asOf = new Date(now);
    if (first.changed || before === null) this.#take(first.body);
    this.render(new Date());
    if (before && patient.body.checkinCount > before.checkinCount) {
      this.#say(`Checked in, ${ago(new Date(patient.body.lastCheckinAt), new Date())}`);
    }
    return patient.changed || first.changed;
  }

  /** Takes the newest page. */
  #take({ checkins, nextCursor }) {
    const continues = checkins.some((checkin) => this.#checkins.has(checkin.version));
    if (!continues) {
      // The first time; or so many are new that some between are not known.
      this.#checkins.clear();
      this.#next = nextCursor;
    }
    for (const checkin of checkins) this.#checkins.set(checkin.version, checkin);
  }

  async #more() {
    this.#loading = true;
    this.render(new Date());
    try {
      const query = new URLSearchParams({ limit: PAGE, cursor: this.#next });
      const { body } = await this.#api.get(`${this.resource}/checkins?${query}`);
      for (const checkin of body.checkins) this.#checkins.set(checkin.version, checkin);
      this.#next = body.nextCursor;
    } catch (error) {
      this.#loadingFailed(error);
    } finally {
      this.#loading = false;
      this.render(new Date());
    }
  }

  /** The check-ins that the patient's count includes: later ones are shown with the next one. */
  #counted() {
    return [...this.#checkins.values()].filter((checkin) => checkin.version <= this.#patient.version);
  }

  render(now) {
    const patient = this.#patient;
    if (!patient) return;
    const { heading, facts, quarantine, content, skeleton } = this.#parts;
    skeleton.hidden = true;
    content.hidden = false;
    setText(heading, patient.name);
    setText(facts, `As of version ${patient.version.toLocaleString("en-GB")}`);
    quarantine.hidden = !patient.quarantinedSince;
    if (patient.quarantinedSince) {
      const since = new Date(patient.quarantinedSince);
      setText(quarantine.lastChild,
        `Since ${exact(since)}, the next event of this patient can’t be applied. What is shown is right as of version ${patient.version}; later check-ins wait, and none is lost.`);
    }
    const checkins = this.#counted().sort((one, other) =>
      one.occurredAt === other.occurredAt ? other.version - one.version : one.occurredAt > other.occurredAt ? -1 : 1);
    this.#renderFigures(checkins, now);
    this.#renderChart();
    this.#renderDays(checkins, now);
    const { more, none } = this.#parts;
    more.hidden = this.#next === null;
    more.disabled = this.#loading;
    setText(more, this.#loading ? "Loading…" : "Show earlier check-ins");
    none.hidden = checkins.length > 0;
    setText(none, patient.quarantinedSince ? "None before the event that can’t be applied." : NONE_YET);
  }

  #renderFigures(checkins, now) {
    const { count, last, first } = this.#parts;
    const patient = this.#patient;
    setText(count, patient.checkinCount.toLocaleString("en-GB"));
    when(last, patient.lastCheckinAt, now, "Not yet");
    const oldest = this.#next === null && checkins.length > 1 ? checkins.at(-1).occurredAt : undefined;
    first.parentNode.hidden = oldest === undefined;
    if (oldest) when(first, oldest, now);
  }

  #renderChart() {
    const { figure, drawing, caption, table } = this.#parts;
    const times = this.#counted().map((checkin) => Date.parse(checkin.occurredAt));
    figure.hidden = times.length === 0;
    if (times.length === 0) return;
    const width = Math.max(240, Math.floor(drawing.clientWidth));
    const drawn = chart(times, this.#asOf, width, this.#next === null ? times.length : this.#patient.checkinCount);
    if (drawn.key === this.#chartKey) return;
    this.#chartKey = drawn.key;
    drawing.replaceChildren(drawn.picture);
    setText(caption, drawn.caption);
    table.replaceChildren(drawn.table);
  }

  #renderDays(checkins, now) {
    const known = this.#entries.size > 0;
    const days = [];
    for (const checkin of checkins) {
      const at = new Date(checkin.occurredAt);
      const day = this.#day(midnight(at), now);
      if (days.at(-1)?.day !== day) days.push({ day, entries: [] });
      days.at(-1).entries.push(this.#entry(checkin, at, now, known));
    }
    for (const { day, entries } of days) {
      place(day.list, entries);
      const some = this.#next !== null && day === days.at(-1).day ? "the latest " : "";
      setText(day.count, `${some}${counted(entries.length, "check-in")}`);
    }
    place(this.#parts.days, days.map(({ day }) => day.top));
  }

  #day(date, now) {
    const key = date.getTime();
    let day = this.#days.get(key);
    if (!day) {
      const name = element("span");
      const count = element("span", { class: "of-day" });
      const list = element("ol", { class: "entries" });
      day = { name, count, list, top: element("section", { class: "day" }, element("h3", {}, name, " ", count), list) };
      this.#days.set(key, day);
    }
    setText(day.name, dayName(date, now));
    return day;
  }

  #entry(checkin, at, now, known) {
    let entry = this.#entries.get(checkin.version);
    if (!entry) {
      const since = element("span", { class: "since" });
      const time = element("time", { datetime: checkin.occurredAt, title: exact(at) }, clockWithSeconds(at));
      entry = { since, top: element("li", {}, time, " ", since, " ", element("span", { class: "version" }, `version ${checkin.version.toLocaleString("en-GB")}`)) };
      this.#entries.set(checkin.version, entry);
      if (known && now - at < 60_000) flash(entry.top);
    }
    setText(entry.since, ago(at, now));
    return entry.top;
  }
}

/** Shows a time as how long ago it was, with the exact one. */
function when(of, at, now, none = "") {
  if (!at) return setText(of, none);
  if (of.firstChild?.dateTime !== at) of.replaceChildren(element("time", { datetime: at, title: exact(new Date(at)) }), element("span", { class: "exact" }, exact(new Date(at))));
  return setText(of.firstChild, ago(new Date(at), now));
}

/** The elements of the view. */
function parts(id) {
  const heading = element("h1", { id: "patient-title", tabindex: -1 }, "Patient");
  const facts = element("span");
  const back = element("a", { class: "back", href: "#" }, "All patients");
  const head = element("div", { class: "patient-head" }, heading, element("p", { class: "facts" }, element("span", { class: "id" }, id), " ", facts));
  const quarantine = element("div", { class: "notice amber", hidden: true }, element("p", { class: "notice-title" }, "Quarantined"), element("p"));
  const skeleton = element("div", { class: "skeleton card pad" }, element("span"), element("span"), element("span"));
  const [count, last, first] = [element("dd"), element("dd"), element("dd")];
  const figures = element("dl", { class: "figures" },
    element("div", {}, element("dt", {}, "Check-ins"), count),
    element("div", {}, element("dt", {}, "Last check-in"), last),
    element("div", { hidden: true }, element("dt", {}, "First check-in"), first));
  const [drawing, caption, table] = [element("div", { class: "drawing" }), element("figcaption", { id: "chart-caption" }), element("div")];
  const figure = element("figure", { class: "card pad", hidden: true }, element("h2", {}, "Over time"), drawing, caption,
    element("details", {}, element("summary", {}, "As a table"), table));
  const days = element("div");
  const none = element("p", { class: "none" });
  const more = element("button", { type: "button", hidden: true });
  const timeline = element("section", { class: "card pad timeline", "aria-labelledby": "timeline-title" },
    element("h2", { id: "timeline-title" }, "Check-ins"), days, none, element("div", { class: "more" }, more));
  const content = element("div", { hidden: true }, figures, figure, timeline);
  return { heading, facts, quarantine, skeleton, count, last, first, figure, drawing, caption, table, days, none, more, content,
    all: [back, head, quarantine, skeleton, content] };
}
