// Asking the API. An answer that has not changed costs a 304 and is not read again.

/** How long an answer may take, in milliseconds: a little more than the gateway's own limit. */
const PATIENCE = 30_000;
/** How many answers are remembered. */
const REMEMBERED = 64;

/** Why there is no answer: a sentence for the reader, and when to ask again at the earliest. */
export class Problem extends Error {
  constructor(status, title, detail, retryAfterSeconds = 0) {
    super(title);
    /** The HTTP status; 0 if the server could not be reached. */
    this.status = status;
    this.title = title;
    this.detail = detail;
    this.retryAfterSeconds = retryAfterSeconds;
  }

  /** Whether asking again leads nowhere: there is nothing. */
  get isFinal() {
    return this.status === 404;
  }
}

export class Api {
  /** By URL: the entity tag of the last answer, and the answer. Only in memory: nothing of a patient gets on a disk. */
  #answers = new Map();
  /** How many requests were answered, and how many of those with a 304. */
  answered = 0;
  unchanged = 0;
  /** Where the pipeline behind the API can be watched; `null` if it can't. The answers themselves say so. */
  pipeline = null;

  /**
   * GETs a resource, by its URL relative to the page. Gives the decoded answer, and whether it is another than the last
   * one from there. Throws a `Problem`; or an `AbortError` if `signal` says so.
   */
  async get(url, signal) {
    const known = this.#answers.get(url);
    const response = await fetched(url, known?.etag, signal);
    this.answered += 1;
    this.pipeline ??= linked(response, "status");
    if (response.status === 304 && known) {
      this.unchanged += 1;
      this.#remember(url, known);
      return { body: known.body, changed: false };
    }
    if (!response.ok) throw await problem(response);
    let body;
    try {
      body = await response.json();
    } catch (error) {
      throw gaveUp(signal) ? error : new Problem(response.status, "The answer cannot be read", "It broke off, or something between here and the server changed it.");
    }
    const etag = response.headers.get("ETag");
    if (etag) this.#remember(url, { etag, body });
    return { body, changed: true };
  }

  #remember(url, answer) {
    this.#answers.delete(url);
    this.#answers.set(url, answer);
    if (this.#answers.size > REMEMBERED) this.#answers.delete(this.#answers.keys().next().value);
  }
}

async function fetched(url, etag, signal) {
  const patience = AbortSignal.timeout(PATIENCE);
  try {
    return await fetch(new URL(url, document.baseURI), {
      cache: "no-store",
      headers: etag ? { Accept: "application/json", "If-None-Match": etag } : { Accept: "application/json" },
      signal: signal ? AbortSignal.any([signal, patience]) : patience,
    });
  } catch (error) {
    if (gaveUp(signal)) throw error;
    throw new Problem(0, "The server cannot be reached", navigator.onLine ? "It may be restarting." : "This device is offline.");
  }
}

function gaveUp(signal) {
  return signal?.aborted ?? false;
}

async function problem(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  const told = await response.json().catch(() => ({}));
  const title = typeof told.title === "string" ? told.title : `The server answered with status ${response.status}`;
  const detail = typeof told.detail === "string" ? told.detail : "";
  return new Problem(response.status, title, detail, retryAfter);
}

/** The target of a link of this relation in the answer's `Link` header, absolute; `null` without one. */
function linked(response, relation) {
  const links = (response.headers.get("Link") ?? "").matchAll(/<([^>]*)>\s*;\s*rel="?([\w-]+)"?/g);
  for (const [, target, found] of links) {
    if (found === relation) return new URL(target, response.url).href;
  }
  return null;
}
