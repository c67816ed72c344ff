// How often somebody checked in over time: bars, and the same as a table.

import { element, svg } from "./dom.js";
import { DAY, HOUR, MINUTE, clock, counted, midnight, shortDate, span } from "./time.js";

const BARS = 24;
/** How much time a bar stands for. */
const SIZES = [MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 28 * DAY];

const HEIGHT = 132;
const TOP = 10;
const BOTTOM = 22;
const LEFT = 30;
const RIGHT = 8;

/**
 * Counts `times` (milliseconds, in any order) in bars of equal length, as short as they can be to reach back to the oldest. The
 * last bar is the one that `now` is in. `cut`: some are older than even the longest bars reach.
 */
export function barsOf(times, now) {
  const oldest = Math.min(now, ...times);
  for (const size of SIZES) {
    const begin = beginOf(size, now);
    if (oldest >= begin || size === SIZES.at(-1)) {
      const counts = Array(BARS).fill(0);
      let cut = false;
      for (const time of times) {
        // Somebody else's clock may be ahead of ours.
        const bar = Math.min(BARS - 1, Math.floor((time - begin) / size));
        if (bar >= 0) counts[bar] += 1;
        else cut = true;
      }
      return { size, begin, counts, cut };
    }
  }
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
 * `chart-caption`; and as a table. `partly`: there are older times. What has the same `key` looks the same.
 */
export function chart(times, now, width, partly) {
  const { size, begin, counts, cut } = barsOf(times, now);
  const inner = width - LEFT - RIGHT;
  const top = scaleTo(Math.max(...counts));
  const x = (bar) => LEFT + (inner * bar) / BARS;
  const y = (count) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - count / top);
  const label = (at) => (size < DAY ? clock(at) : shortDate(at));
  const period = (bar) => {
    const [from, to] = [new Date(begin + bar * size), new Date(begin + (bar + 1) * size)];
    if (size >= DAY) return size === DAY ? shortDate(from) : `${shortDate(from)} to ${shortDate(to - 1)}`;
    return `${shortDate(from)}, ${clock(from)} to ${clock(to)}`;
  };

  const lines = [0, top / 2, top].map((count) =>
    svg("g", {},
      svg("line", { class: count === 0 ? "axis" : "grid", x1: LEFT, x2: width - RIGHT, y1: y(count), y2: y(count) }),
      svg("text", { x: LEFT - 8, y: y(count) + 4, "text-anchor": "end" }, String(count)),
    ),
  );
  const gap = Math.min(4, (inner / BARS) * 0.25);
  const bars = counts.map((count, bar) =>
    count === 0
      ? null
      : svg("rect", { class: "bar", x: x(bar) + gap / 2, width: inner / BARS - gap, y: y(count), height: y(0) - y(count), rx: 2 },
          svg("title", {}, `${period(bar)}: ${counted(count, "check-in")}`)),
  );
  // Where a label fits: it is about 40 pixels wide.
  const every = inner / 4 > 90 ? 6 : 8;
  const labels = [];
  for (let bar = 0; bar < BARS; bar += every) {
    labels.push(svg("text", { x: x(bar), y: HEIGHT - 4, "text-anchor": bar === 0 ? "start" : "middle" }, label(new Date(begin + bar * size))));
  }
  labels.push(svg("text", { x: width - RIGHT, y: HEIGHT - 4, "text-anchor": "end" }, size < DAY ? "now" : "today"));

  const total = counts.reduce((sum, count) => sum + count, 0);
  const most = Math.max(...counts);
  const picture = svg("svg", { class: "chart", width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-labelledby": "chart-caption" }, ...lines, ...bars, ...labels);
  const busiest = most > 1 ? `, at most ${most} ${size === MINUTE ? "in a minute" : `in ${span(size)}`}` : "";
  const earlier = partly || cut ? " Earlier ones are not in the picture." : "";
  const caption = `${counted(total, "check-in")} in the last ${span(BARS * size)}${busiest}.${earlier}`;
  const rows = counts
    .map((count, bar) => [bar, count])
    .filter(([, count]) => count > 0)
    .reverse()
    .map(([bar, count]) => element("tr", {}, element("th", { scope: "row" }, period(bar)), element("td", {}, String(count))));
  const table = element("table", { class: "plain" },
    element("caption", { class: "unseen" }, "Check-ins over time"),
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Time"), element("th", { scope: "col" }, "Check-ins"))),
    element("tbody", {}, ...rows));
  return { picture, caption, table, key: `${width} ${partly} ${begin} ${counts}` };
}
