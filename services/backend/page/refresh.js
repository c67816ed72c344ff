// When to ask again. Often while things change, seldom while they don't, not at all while nobody looks, and ever more
// seldom while it fails.

/** Time between two refreshes, in milliseconds: commonly, and once nothing has changed for a while. */
const OFTEN = 5_000;
const SELDOM = 15_000;
/** So many refreshes without a change are "a while". */
const A_WHILE = 6;
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

  /** `told(error)` is called after each time: with what was thrown, or `null`. */
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
    return this.#run(this.#abort.signal);
  }

  async #run(signal) {
    let error = null;
    try {
      this.#quiet = (await this.#work(signal)) ? 0 : this.#quiet + 1;
      this.#failures = 0;
    } catch (thrown) {
      error = thrown;
    }
    if (signal.aborted) return;
    if (error) this.#failures += 1;
    this.#told(error);
    const wait = pause({ failures: this.#failures, quiet: this.#quiet, retryAfterSeconds: error?.retryAfterSeconds });
    this.#clear();
    if (!document.hidden) this.#timer = setTimeout(() => this.now(), wait);
  }

  #clear() {
    clearTimeout(this.#timer);
  }
}
