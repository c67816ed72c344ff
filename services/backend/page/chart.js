// How often somebody checked in over time: bars, and the same as a table.

import { element, svg } from "./dom.js";
import { DAY, HOUR, MINUTE, SECOND, clock, clockWithSeconds, counted, midnight, moment, shortDate, span } from "./time.js";

const BARS = 24;
/** How much time a bar stands for. */
const SIZES = [MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 28 * DAY];
/** And if that would leave nearly all of the picture to the time before it begins. */
const SHORT_SIZES = [5 * SECOND, 15 * SECOND];

const HEIGHT = 132;
const TOP = 10;
const BOTTOM = 22;
const LEFT = 30;
const RIGHT = 8;

/**
 * Counts `times` (milliseconds, in any order) in bars of equal length, as short as they can be to reach back to the oldest. The
 * last bar is the one that `now` is in. `partly`: there are older times, which are not known; then nothing is said of the time
 * before the oldest that is, so the first bar begins with it. `cut`: some are older than even the longest bars reach.
 */
export function barsOf(times, now, partly = false) {
  const oldest = Math.min(now, ...times);
  const sizes = partly ? [...SHORT_SIZES, ...SIZES] : SIZES;
  const reachesBack = (size) => oldest >= beginOf(size, now);
  const size = sizes.find(reachesBack) ?? SIZES.at(-1);
  const begin = beginOf(size, now);
  const cut = !reachesBack(size);
  const since = partly && !cut ? oldest : begin;
  const first = Math.floor((since - begin) / size);
  const bars = [];
  for (let bar = first; bar < BARS; bar += 1) {
    bars.push({ from: Math.max(since, begin + bar * size), to: begin + (bar + 1) * size, count: 0 });
  }
  for (const time of times) {
    // Somebody else's clock may be ahead of ours.
    const bar = Math.min(BARS - 1, Math.floor((time - begin) / size)) - first;
    if (bar >= 0) bars[bar].count += 1;
  }
  return { size, bars, cut };
}

/** When the first bar begins. Bars begin at whole multiples of their size since the reader's midnight. */
function beginOf(size, now) {
  const start = midnight(now).getTime();
  const last = start + Math.floor((now - start) / size) * size;
  return last - (BARS - 1) * size;
}

/** The highest line of the scale: a number that halves evenly, and is not below `most`. */
export function scaleTo(most) {
  if (most <= 2) return 2;
  for (let power = 1; ; power *= 10) {
    for (const step of [2, 4, 6, 8, 10]) if (step * power >= most) return step * power;
  }
}

/**
 * A drawing of `times`, which is `width` pixels wide; what it shows in a sentence, for the element with the id
 * `chart-caption`; and as a table. `total`: how many there are with those that are not known. What has the same `key` looks
 * the same.
 */
export function chart(times, now, width, total) {
  const partly = total > times.length;
  const { size, bars, cut } = barsOf(times, now, partly);
  const [start, end] = [bars[0].from, bars.at(-1).to];
  const most = Math.max(...bars.map(({ count }) => count));
  const top = scaleTo(most);
  const x = (at) => LEFT + ((width - LEFT - RIGHT) * (at - start)) / (end - start);
  const y = (count) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - count / top);
  const time = size < MINUTE ? clockWithSeconds : clock;
  const label = size < DAY ? time : shortDate;
  const period = ({ from, to }) => {
    if (size >= DAY) return size === DAY ? shortDate(from) : `${shortDate(from)} to ${shortDate(to - 1)}`;
    // Where the picture begins in the middle of a bar.
    const begin = from % MINUTE === 0 ? time(from) : clockWithSeconds(from);
    return `${shortDate(from)}, ${begin} to ${time(to)}`;
  };

  const lines = [0, top / 2, top].map((count) =>
    svg("g", {},
      svg("line", { class: count === 0 ? "axis" : "grid", x1: LEFT, x2: width - RIGHT, y1: y(count), y2: y(count) }),
      svg("text", { x: LEFT - 8, y: y(count) + 4, "text-anchor": "end" }, String(count)),
    ),
  );
  const gap = Math.min(4, (x(end) - x(end - size)) * 0.25);
  const drawn = bars.map((bar) =>
    bar.count === 0
      ? null
      : svg("rect", { class: "bar", x: x(bar.from) + gap / 2, width: Math.max(1, x(bar.to) - x(bar.from) - gap), y: y(bar.count), height: y(0) - y(bar.count), rx: 2 },
          svg("title", {}, `${period(bar)}: ${counted(bar.count, "check-in")}`)),
  );
  // As many as fit: one is about 50 pixels wide.
  const inner = x(end) - LEFT;
  const step = inner / 4 > 90 ? inner / 4 : inner / 3;
  const at = (place, anchor, text) => svg("text", { x: place, y: HEIGHT - 4, "text-anchor": anchor }, text);
  const labels = [at(LEFT, "start", label(start)), at(width - RIGHT, "end", size < DAY ? "now" : "today")];
  let last = LEFT;
  for (const { from } of bars.slice(1)) {
    if (x(from) < last + step - 1 || x(from) > x(end) - 70) continue;
    last = x(from);
    labels.push(at(last, "middle", label(from)));
  }

  const picture = svg("svg", { class: "chart", width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-labelledby": "chart-caption" }, ...lines, ...drawn, ...labels);
  const busiest = most > 1 ? `, at most ${most} ${size === MINUTE ? "in a minute" : `in ${span(size)}`}` : "";
  const shown = bars.reduce((sum, { count }) => sum + count, 0);
  const caption =
    partly && !cut
      ? `The latest ${shown.toLocaleString("en-GB")} of ${counted(total, "check-in")}, since ${moment(new Date(start), now)}${busiest}.`
      : `${counted(shown, "check-in")} in the last ${span(BARS * size)}${busiest}.${cut ? " Earlier ones are not in the picture." : ""}`;
  const rows = bars
    .filter(({ count }) => count > 0)
    .reverse()
    .map((bar) => element("tr", {}, element("th", { scope: "row" }, period(bar)), element("td", {}, String(bar.count))));
  const table = element("table", { class: "plain" },
    element("caption", { class: "unseen" }, "Check-ins over time"),
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Time"), element("th", { scope: "col" }, "Check-ins"))),
    element("tbody", {}, ...rows));
  return { picture, caption, table, key: `${width} ${total} ${start} ${bars.map(({ count }) => count)}` };
}
