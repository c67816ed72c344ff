// Times as people read them, in their own time zone.

export const SECOND = 1_000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

const LOCALE = "en-GB";
const format = (options) => new Intl.DateTimeFormat(LOCALE, options);
const EXACT = format({ dateStyle: "full", timeStyle: "long" });
const CLOCK = format({ hour: "2-digit", minute: "2-digit" });
const CLOCK_WITH_SECONDS = format({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DATE = format({ day: "numeric", month: "short", year: "numeric" });
const SHORT_DATE = format({ day: "numeric", month: "short" });
const LONG_DATE = format({ weekday: "long", day: "numeric", month: "long", year: "numeric" });

export const exact = (date) => EXACT.format(date);
export const clock = (date) => CLOCK.format(date);
export const clockWithSeconds = (date) => CLOCK_WITH_SECONDS.format(date);
export const shortDate = (date) => SHORT_DATE.format(date);

/** The midnight before a time, where the reader is. */
export function midnight(date) {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate());
}

/** How many midnights lie between two times; a day with a clock change counts as one. */
export function daysBetween(earlier, later) {
  return Math.round((midnight(later) - midnight(earlier)) / DAY);
}

/** How long ago: `just now`, `40 s ago`, `3 min ago`, `5 h ago`, `yesterday`, `4 days ago`, or the date. */
export function ago(date, now) {
  // A clock that is a little ahead of ours.
  const passed = Math.max(0, now - date);
  if (passed < 10 * SECOND) return "just now";
  if (passed < MINUTE) return `${Math.floor(passed / (10 * SECOND)) * 10} s ago`;
  if (passed < HOUR) return `${Math.floor(passed / MINUTE)} min ago`;
  const days = daysBetween(date, now);
  if (days === 0 || passed < 6 * HOUR) return `${Math.floor(passed / HOUR)} h ago`;
  if (days === 1) return "yesterday";
  if (days < 7) return `${days} days ago`;
  return DATE.format(date);
}

/** A time to the second: of this day without the date, of this year without the year. */
export function moment(date, now) {
  if (daysBetween(date, now) === 0) return clockWithSeconds(date);
  const day = date.getFullYear() === now.getFullYear() ? shortDate(date) : DATE.format(date);
  return `${day}, ${clockWithSeconds(date)}`;
}

/** A day as a heading. */
export function dayName(date, now) {
  const days = daysBetween(date, now);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return LONG_DATE.format(date);
}

/** A length of time, as in "the last 24 hours". */
export function span(millis) {
  for (const [unit, name] of [[7 * DAY, "weeks"], [DAY, "days"], [HOUR, "hours"]]) {
    if (millis >= 2 * unit && millis % unit === 0) return `${millis / unit} ${name}`;
  }
  return millis < MINUTE ? `${millis / SECOND} seconds` : `${Math.round(millis / MINUTE)} minutes`;
}

/** A whole number with its unit, in the singular for one. */
export function counted(number, one, many = `${one}s`) {
  return `${number.toLocaleString(LOCALE)} ${number === 1 ? one : many}`;
}
