// The way from a check-in to this page, as the system on one machine lets it be watched. Loaded only where it does.

import { Api } from "./api.js";
import { element, place, setText } from "./dom.js";
import { flash } from "./list_view.js";
import { ago, clockWithSeconds, counted, exact } from "./time.js";

/** Time between two looks, in milliseconds: commonly, and after one that failed. */
const OFTEN = 1_000;
const AFTER_FAILURE = 5_000;

const SUB = "how a check-in gets onto this page";

const STATIONS = [
  ["schedule", "Schedule", "somebody checks in"],
  ["events", "Event table", "events appended"],
  ["stream", "Stream", "waiting to be applied"],
  ["projector", "Projector", "from event to view"],
  ["model", "Read model", "events applied"],
  ["api", "API", "answers to this page"],
];

const TITLES = { PatientRegistered: "Registered", PatientCheckedIn: "Checked in" };

export class PipelineView {
  #top;
  #url;
  #api;
  /** What the pipeline says is no answer of the API's. */
  #watched = new Api();
  #changed;
  #stations = new Map();
  #flow;
  #events;
  #sub;
  #replay;
  #rows = new Map();
  /** The events that were in the view the last time. */
  #seen = null;

  /** Shows in `top` what is at `url`. `changed()` is called when there is more to see. */
  constructor(top, url, api, changed) {
    this.#top = top;
    this.#url = url;
    this.#api = api;
    this.#changed = changed;
    const stations = STATIONS.map(([key, name, caption]) => {
      const station = {
        number: element("span", { class: "number" }, "–"),
        caption: element("span", { class: "caption" }, caption),
        note: element("span", { class: "note" }),
      };
      this.#stations.set(key, station);
      const what = element("span", { class: "what" }, station.caption, " ", station.note);
      return element("li", {}, element("span", { class: "name" }, name), " ", station.number, " ", what);
    });
    this.#flow = element("ol", { class: "flow" }, ...stations);
    this.#events = element("tbody");
    this.#sub = element("span", { class: "sub" }, SUB);
    this.#replay = element("div", { class: "replay" });
    const heading = (...names) => element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name))));
    top.replaceChildren(
      element("section", { class: "pipeline card", "aria-labelledby": "pipeline-title" },
        element("details", { open: !matchMedia("(max-width: 47.99rem)").matches },
          element("summary", {}, element("h2", { id: "pipeline-title" }, "Event sourcing, live"),
            this.#sub),
          element("div", { class: "inside" },
            this.#flow,
            element("div", { class: "below" },
              element("div", { class: "latest" }, element("h3", {}, "Latest events"),
                element("table", { class: "plain" }, heading("Event", "Patient", "Version", "Visible after"), this.#events)),
              this.#replay)))));
    top.hidden = false;
    document.body.classList.add("watched");
    this.#look();
  }

  async #look() {
    let wait = OFTEN;
    if (!document.hidden && this.#top.checkVisibility()) {
      try {
        const { body } = await this.#watched.get(this.#url, AbortSignal.timeout(10_000));
        this.#show(body, new Date());
        this.#isSilent(false);
      } catch {
        this.#isSilent(true);
        wait = AFTER_FAILURE;
      }
    }
    setTimeout(() => this.#look(), wait);
  }

  #isSilent(silent) {
    this.#top.classList.toggle("silent", silent);
    setText(this.#sub, silent ? "does not answer; these are the last numbers" : SUB);
  }

  #set(key, number, note = "", alarming = false) {
    const station = this.#stations.get(key);
    setText(station.number, number);
    setText(station.note, note);
    station.note.classList.toggle("amber", alarming);
  }

  #show(pipeline, now) {
    const { appended, applied, quarantined, changed, events, generation } = pipeline;
    const whole = (number) => number.toLocaleString("en-GB");
    const newest = events.find((event) => event.appliedMillis !== null)?.appliedMillis;
    const lag = Math.max(newest ?? 0, pipeline.lagMillis >= 1_000 ? pipeline.lagMillis : 0);
    this.#set("schedule", `every ${period(pipeline.everyMillis)}`, pipeline.patientsPerTick > 1 ? `${whole(pipeline.patientsPerTick)} each time` : "");
    this.#set("events", whole(appended), changed > 0 ? `${counted(changed, "event")} changed!` : "none ever changed", changed > 0);
    this.#set("stream", whole(Math.max(0, appended - applied)), `lag ${duration(pipeline.lagMillis)}`, pipeline.lagMillis >= 10_000);
    this.#set("projector", newest === undefined ? "–" : duration(lag), `${whole(quarantined)} quarantined`, quarantined > 0);
    this.#set("model", whole(applied), `generation ${generation.active ?? "–"}`);
    this.#set("api", whole(this.#api.answered), this.#api.unchanged > 0 ? `${whole(this.#api.unchanged)} unchanged (304)` : "");
    this.#showEvents(events);
    this.#showReplay(pipeline, now);
    const seen = events.filter((event) => event.appliedMillis !== null).map((event) => `${event.patientId}#${event.version}`).join();
    if (this.#seen !== null && seen !== this.#seen) {
      this.#run();
      this.#changed();
    }
    this.#seen = seen;
  }

  /** Lets a dot run along the way. */
  #run() {
    this.#flow.classList.remove("runs");
    void this.#flow.getBoundingClientRect();
    this.#flow.classList.add("runs");
  }

  #showEvents(events) {
    const known = this.#rows.size > 0;
    const rows = new Map();
    for (const event of events) {
      const key = `${event.patientId}#${event.version}`;
      let row = this.#rows.get(key);
      if (!row) {
        const visible = element("td", { class: "visible" });
        const top = element("tr", { title: `Recorded ${exact(new Date(event.recordedAt))}` },
          element("th", { scope: "row" }, TITLES[event.type] ?? event.type ?? "Of an unknown type"),
          element("td", {}, element("a", { class: "id", href: `#patient/${encodeURIComponent(event.patientId)}` }, event.patientId)),
          element("td", { class: "version" }, String(event.version)),
          visible);
        row = { top, visible };
        if (known) flash(top);
      }
      setText(row.visible, event.appliedMillis === null ? "waits" : `${event.appliedMillis.toLocaleString("en-GB")} ms`);
      row.visible.classList.toggle("amber", event.appliedMillis === null);
      rows.set(key, row);
    }
    this.#rows = rows;
    place(this.#events, [...rows.values()].map(({ top }) => top));
  }

  #showReplay({ generation, dynamodb }, now) {
    const { active, activeSince, building, previous } = generation;
    let told;
    if (building !== null) {
      told = [`Generation ${building} is being built from the events, beside the one that you see (${active}). Check-ins go on meanwhile.`];
    } else if (activeSince) {
      const back = previous !== null && previous > active;
      told = [`${back ? "Rolled back to" : "Rebuilt from all events as"} generation ${active}, which has been active since `, clockWithSeconds(new Date(activeSince)), ` (${ago(new Date(activeSince), now)}).`];
    } else {
      told = [`This is generation ${active ?? 1}, the first: no replay has been run. Compute the read model anew from all events, while everything goes on:`];
    }
    const key = `${told.join("")} ${dynamodb}`;
    if (this.#replay.dataset.key === key) return;
    this.#replay.dataset.key = key;
    this.#replay.replaceChildren(
      element("h3", {}, "Last replay"),
      element("p", {}, ...told),
      element("pre", {}, element("code", {}, `cargo run -p replay -- rebuild \\\n  --endpoint-url ${dynamodb}`)));
  }
}

/** The time between two ticks. */
function period(millis) {
  if (millis < 1_000) return `${millis} ms`;
  const seconds = millis / 1_000;
  return seconds < 120 ? `${seconds} s` : seconds < 7_200 ? `${seconds / 60} min` : `${seconds / 3_600} h`;
}

/** A length of time that is commonly short. */
function duration(millis) {
  if (millis < 1_000) return `${millis} ms`;
  return millis < 60_000 ? `${(millis / 1_000).toFixed(1)} s` : `${Math.floor(millis / 60_000)} min`;
}
