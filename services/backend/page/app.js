// Which view is shown, how current it is, and what the reader is told about that.

import { Api, Problem } from "./api.js";
import { setText } from "./dom.js";
import { ListView } from "./list_view.js";
import { PatientView } from "./patient_view.js";
import { Patients } from "./patients.js";
import { Refresh } from "./refresh.js";
import { ago, exact } from "./time.js";

const $ = (id) => document.getElementById(id);

/** Time between two looks at the clock, in milliseconds. */
const TICK = 5_000;
/** What is not older is called live: a little more than the longest time between two refreshes. */
const LIVE_FOR = 20_000;

const api = new Api();
const list = new ListView(new Patients(api), failed);
let view = list;
/** As of when the view is: when the last refresh that succeeded was begun. */
let currentAt = null;
/** Whether the last attempt to find out failed. */
let hasFailed = false;
let scrolledTo = 0;
let pipeline = null;

const refresh = new Refresh(
  (signal) => view.refresh(Date.now(), signal),
  (error, begunAt) => {
    if (error) failed(error);
    else succeeded(begunAt);
  },
);

/** The view that the address names: `#patient/ID`, which never reaches a server; anything else is the list, in some order. */
function patientInAddress() {
  const [, id] = location.hash.match(/^#patient\/(.+)$/) ?? [];
  try {
    return id === undefined ? null : decodeURIComponent(id);
  } catch {
    return null;
  }
}

function show(isFirst) {
  const id = patientInAddress();
  const left = view;
  if (left !== list) left.close();
  else if (!isFirst) scrolledTo = scrollY;
  view = id === null ? list : new PatientView(api, id, failed, say);
  $("list").hidden = view !== list;
  $("patient").hidden = view === list;
  document.title = view.title;
  $("json").href = view.resource;
  currentAt = null;
  hasFailed = false;
  state("loading", "Loading");
  notice(null);
  if (view === list) {
    list.restore();
    list.render(new Date());
  }
  if (!isFirst) {
    scrollTo({ top: view === list ? scrolledTo : 0, behavior: "instant" });
    const back = view === list && left !== list && list.linkTo(left.id);
    (back || view.heading).focus({ preventScroll: true });
  }
  refresh.now();
}

function succeeded(begunAt) {
  currentAt = begunAt;
  hasFailed = false;
  const stale = view.staleSince;
  notice(stale && {
    kind: "amber",
    title: "What you see may be behind",
    text: `Events that were recorded since ${exact(new Date(stale))} may be missing. Nothing is lost: they will appear.`,
  });
  tick();
  watchPipeline();
}

function failed(error) {
  hasFailed = true;
  if (!(error instanceof Problem)) {
    console.error(error);
    error = new Problem(0, "This page made a mistake", "Loading it again may help.");
  }
  const then = error.isFinal ? "" : currentAt ? " What you see is not updated meanwhile; this page tries again by itself." : " This page tries again by itself.";
  notice({ kind: "red", title: error.title, text: `${error.detail}${then}`.trim(), retry: !error.isFinal });
  view.element.classList.toggle("failed", currentAt === null);
  $("patients").setAttribute("aria-busy", "false");
  tick();
}

/** Shows a notice above everything, or takes it away. It is read aloud when it is new. */
function notice(told) {
  const top = $("notice");
  if (!told) {
    top.hidden = true;
    view.element.classList.remove("failed");
    return;
  }
  setText($("notice-title"), told.title);
  setText($("notice-text"), told.text);
  $("retry").hidden = !told.retry;
  top.className = `notice ${told.kind}`;
  top.hidden = false;
}

function state(name, text) {
  $("state").dataset.state = name;
  setText($("state-text"), text);
}

function tick() {
  const now = new Date();
  view.render(now);
  if (hasFailed || (currentAt && now - currentAt > LIVE_FOR)) state("failing", currentAt ? `Last updated ${ago(currentAt, now)}` : "No data");
  else if (currentAt && view.staleSince) state("stale", "Behind");
  else if (currentAt) state("live", "Live");
}

/** Has a text read aloud. */
function say(text) {
  setText($("announcer"), "");
  setTimeout(() => setText($("announcer"), text), 50);
}

async function watchPipeline() {
  if (pipeline || !api.pipeline) return;
  pipeline = import("./pipeline_view.js");
  let loaded;
  try {
    loaded = await pipeline;
  } catch {
    // The server went away in between, which the next refresh tells; the one that succeeds asks for it again.
    pipeline = null;
    return;
  }
  new loaded.PipelineView($("pipeline"), api.pipeline, api, () => refresh.soon());
}

// `/v1` and `/v1/` are the same page: settle on one, or the first link would load it anew.
const base = new URL(document.baseURI).pathname;
if (location.pathname !== base) history.replaceState(history.state, "", base + location.search + location.hash);

$("retry").addEventListener("click", () => {
  state("loading", "Trying again");
  refresh.now();
});
$("skip").addEventListener("click", (event) => {
  // Not by the address, which names the view.
  event.preventDefault();
  view.heading.focus();
});
addEventListener("hashchange", () => show(false));
setInterval(tick, TICK);
show(true);
