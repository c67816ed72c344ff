// When to ask again. Often while things change, seldom while they don't, not at all while nobody looks or where there is
// nothing, and ever more seldom while it fails.

/** Time between two refreshes, in milliseconds: commonly, and once nothing has changed for a while. */
const OFTEN = 5_000;
const SELDOM = 15_000;
/** So many refreshes without a change are "a while". */
const A_WHILE = 6;
/** Between two refreshes that are there because something is known to have changed. */
const AT_MOST_EVERY = 3_000;
/** The first wait after a failure, which doubles with each further one up to the last. */
const FIRST_WAIT = 2_000;
const LAST_WAIT = 60_000;

/** How long to wait until the next refresh, in milliseconds. */
export function pause({ failures, quiet, retryAfterSeconds = 0 }) {
  if (failures > 0) {
    const wait = Math.min(LAST_WAIT, FIRST_WAIT * 2 ** (failures - 1));
    return Math.max(wait, Math.min(LAST_WAIT, retryAfterSeconds * 1_000));
  }
  return quiet >= A_WHILE ? SELDOM : OFTEN;
}

/** Does `work` again and again. `work(signal)` resolves to whether anything changed, or throws. */
export class Refresh {
  #work;
  #told;
  #timer = null;
  #abort = null;
  #quiet = 0;
  #failures = 0;
  #begunAt = 0;
  #isRunning = false;
  /** Whether something has changed since the refresh that is under way was begun. */
  #again = false;
  #isOver = false;

  /** `told(error, begunAt)` is called after each time: with what was thrown, or `null`; and when it was begun. */
  constructor(work, told) {
    this.#work = work;
    this.#told = told;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#clear() : this.now()));
    addEventListener("online", () => this.now());
  }

  /** Does it at once, instead of at the next time. What is under way is given up. */
  now() {
    this.#clear();
    this.#abort?.abort();
    this.#abort = new AbortController();
    this.#isOver = false;
    return this.#run(this.#abort.signal);
  }

  /**
   * Does it soon, because something has changed. What is under way goes on, or answers that take longer than it takes until
   * the next change would never be seen.
   */
  soon() {
    if (this.#isRunning) this.#again = true;
    else if (this.#failures === 0 && !this.#isOver) this.#doAfter(this.#begunAt + AT_MOST_EVERY - Date.now());
  }

  async #run(signal) {
    let error = null;
    this.#begunAt = Date.now();
    this.#isRunning = true;
    this.#again = false;
    try {
      this.#quiet = (await this.#work(signal)) ? 0 : this.#quiet + 1;
      this.#failures = 0;
    } catch (thrown) {
      error = thrown;
    }
    if (signal.aborted) return;
    this.#isRunning = false;
    if (error) this.#failures += 1;
    this.#told(error, new Date(this.#begunAt));
    this.#isOver = error?.isFinal ?? false;
    if (this.#isOver) return;
    if (this.#again && this.#failures === 0) this.soon();
    else this.#doAfter(pause({ failures: this.#failures, quiet: this.#quiet, retryAfterSeconds: error?.retryAfterSeconds }));
  }

  #doAfter(wait) {
    this.#clear();
    if (!document.hidden) this.#timer = setTimeout(() => this.now(), Math.max(0, wait));
  }

  #clear() {
    clearTimeout(this.#timer);
  }
}
