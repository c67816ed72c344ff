// The page's rules, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";

process.env.TZ = "Europe/Berlin";

const from = (module) => import(`../../../services/backend/page/${module}.js`);
const { ago, dayName, daysBetween, moment, span, counted } = await from("time");
const { barsOf, scaleTo } = await from("chart");
const { matches, plain } = await from("patients");
const { pause } = await from("refresh");

const at = (text) => new Date(text);

test("how long ago is told in the largest unit that fits", () => {
  const now = at("2026-11-24T12:00:00Z");
  const check = (then, expected) => assert.equal(ago(at(then), now), expected, then);
  check("2026-11-24T12:00:30Z", "just now");
  check("2026-11-24T11:59:50.001Z", "just now");
  check("2026-11-24T11:59:50Z", "10 s ago");
  check("2026-11-24T11:59:00.001Z", "50 s ago");
  check("2026-11-24T11:59:00Z", "1 min ago");
  check("2026-11-24T11:00:01Z", "59 min ago");
  check("2026-11-24T11:00:00Z", "1 h ago");
  check("2026-11-24T00:00:00Z", "12 h ago");
  check("2026-11-23T22:00:00Z", "yesterday");
  check("2026-11-22T12:00:00Z", "2 days ago");
  check("2026-11-17T12:00:00Z", "17 Nov 2026");
});

test("a night between does not make a few hours yesterday", () => {
  assert.equal(ago(at("2026-11-23T22:30:00Z"), at("2026-11-24T01:00:00Z")), "2 h ago");
});

test("days are those of the reader, and one with a clock change is one", () => {
  const check = (one, other, expected) => assert.equal(daysBetween(at(one), at(other)), expected);
  check("2026-11-23T22:59:59Z", "2026-11-23T23:00:00Z", 1);
  check("2026-11-23T23:00:00Z", "2026-11-24T22:59:59Z", 0);
  check("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z", 1);
  check("2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z", 2);
  assert.equal(dayName(at("2026-11-23T12:00:00Z"), at("2026-11-24T12:00:00Z")), "Yesterday");
  assert.match(dayName(at("2026-11-20T12:00:00Z"), at("2026-11-24T12:00:00Z")), /^Friday,? 20 November 2026$/);
});

test("an exact time has as much of a date as it needs", () => {
  const now = at("2026-11-24T12:00:00Z");
  const check = (then, expected) => assert.equal(moment(at(then), now), expected);
  check("2026-11-24T07:33:58Z", "08:33:58");
  check("2026-11-23T23:00:00Z", "00:00:00");
  check("2026-11-23T22:59:59Z", "23 Nov, 23:59:59");
  check("2025-12-24T12:00:00Z", "24 Dec 2025, 13:00:00");
});

test("lengths and numbers have their unit", () => {
  assert.equal(span(15_000), "15 seconds");
  assert.equal(span(24 * 60_000), "24 minutes");
  assert.equal(span(24 * 3_600_000), "24 hours");
  assert.equal(span(7 * 86_400_000), "7 days");
  assert.equal(span(24 * 7 * 86_400_000), "24 weeks");
  assert.equal(counted(1, "check-in"), "1 check-in");
  assert.equal(counted(1_234, "check-in"), "1,234 check-ins");
});

test("every check-in is in one bar, and the bars reach back to the oldest", () => {
  const now = at("2026-11-24T12:34:56Z");
  const check = (ages, size, cut = false) => {
    const times = ages.map((age) => now - age);
    const bars = barsOf(times, now);
    assert.equal(bars.size, size);
    assert.equal(bars.cut, cut);
    const inside = times.filter((time) => time >= bars.bars[0].from).length;
    assert.equal(bars.bars.reduce((sum, { count }) => sum + count, 0), inside);
    assert.equal(bars.bars.length, 24);
    if (!cut) assert.equal(inside, times.length);
  };
  const [minute, hour, day] = [60_000, 3_600_000, 86_400_000];
  check([], minute);
  check([0], minute);
  check([-5_000, 0, minute], minute);
  check([0, 23 * minute], minute);
  check([0, 24 * minute], 5 * minute);
  check([0, 10 * hour], hour);
  check([0, 22 * day], day);
  check([0, 300 * day], 28 * day);
  check([0, 5_000 * day], 28 * day, true);
});

test("bars of the latest check-ins say of their time what is true of all", () => {
  const now = at("2026-11-24T12:34:56Z");
  const check = (gap, loaded, size) => {
    const all = Array.from({ length: 216 }, (_, index) => now - index * gap);
    const known = all.slice(0, loaded);
    const { bars, ...told } = barsOf(known, now, loaded < all.length);
    assert.equal(told.size, size);
    assert.equal(told.cut, false);
    for (const { from, to, count } of bars) {
      assert.equal(count, all.filter((time) => time >= from && time < to).length, new Date(from).toISOString());
    }
    assert.equal(bars[0].from, loaded < all.length ? known.at(-1) : bars[1].from - size);
    assert.ok(bars.length <= 24 && bars.at(-1).to > now, `${bars.length} bars`);
    assert.equal(bars.reduce((sum, { count }) => sum + count, 0), loaded);
  };
  check(6_000, 100, 60_000);
  check(6_000, 216, 60_000);
  check(300, 100, 5_000);
  check(3_000, 100, 15_000);
  check(60_000, 100, 5 * 60_000);
  check(3_600_000, 100, 6 * 3_600_000);
  check(86_400_000, 200, 28 * 86_400_000);
});

test("the scale halves evenly and is not below what it shows", () => {
  for (let most = 0; most <= 250; most += 1) {
    const top = scaleTo(most);
    assert.ok(top >= most && top % 2 === 0 && top <= Math.max(2, most * 2), `${most}: ${top}`);
  }
});

test("a search does not mind case, marks, order of words or special letters", () => {
  const patient = { id: "p-010", name: "Jarosław O’Přykład" };
  for (const query of ["jaroslaw", "OPRY", "o'pr", "p-010", "010 jar", "přy JAROSŁAW", "  ł  "]) {
    assert.ok(matches(patient, query.trim()), query);
  }
  for (const query of ["jaroslav", "p-011", "jar 011"]) assert.ok(!matches(patient, query), query);
  assert.equal(plain("Søren Æbleskiver Weiß"), "soren aebleskiver weiss");
});

test("it asks seldom when nothing changes, and ever more seldom when it fails", () => {
  assert.equal(pause({ failures: 0, quiet: 0 }), 5_000);
  assert.equal(pause({ failures: 0, quiet: 5 }), 5_000);
  assert.equal(pause({ failures: 0, quiet: 6 }), 15_000);
  const waits = [1, 2, 3, 4, 5, 6, 20].map((failures) => pause({ failures, quiet: 0 }));
  assert.deepEqual(waits, [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
  assert.equal(pause({ failures: 1, quiet: 0, retryAfterSeconds: 10 }), 10_000);
  assert.equal(pause({ failures: 1, quiet: 0, retryAfterSeconds: 9_999 }), 60_000);
});
