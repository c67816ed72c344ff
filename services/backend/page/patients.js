// What the page knows of the patients, and how it comes to know more.
//
// The API gives patients in pages, in either order. Whoever checks in moves to the front of the recent order, so its
// first page tells of every check-in: that is what is asked for again and again. It tells nothing of who has just been
// registered or quarantined further back, so now and then the pages that were loaded are asked for again as well.

const PAGE = 100;
/** How often the pages behind the first are asked for again, in milliseconds. */
const WALK_AGAIN = 60_000;
/** How many patients are looked through at most before somebody asks for more. */
export const SEARCHED_AT_FIRST = 2_000;

export const RECENT = "recent";
export const BY_ID = "id";
/** The API has no such order, for which it would need an index of names: it is that of the patients who have been loaded. */
export const BY_NAME = "name";

/** How far the pages of one order have been loaded. */
class Walk {
  pages = 0;
  /** The place of the last patient of the last page. */
  last = null;
  /** The cursor of the page after; `null` if that was the last one. */
  next = undefined;

  get ended() {
    return this.next === null;
  }
}

const NAMES = new Intl.Collator("en-GB", { numeric: true });

/** The API's own order, most recent first. Nobody's time sorts behind every time. */
const place = (patient) => `${patient.lastCheckinAt ?? "-"}#${patient.id}`;

export class Patients {
  #api;
  #byId = new Map();
  #walks = { [RECENT]: new Walk(), [BY_ID]: new Walk() };
  #walkedAt = 0;
  /** What the newest answer says. The patients who were loaded long ago may say something else. */
  #staleSince = null;

  constructor(api) {
    this.#api = api;
  }

  /** Whether all patients there are have been loaded. */
  get complete() {
    return this.#walks[RECENT].ended || this.#walks[BY_ID].ended;
  }

  /** How many have been loaded. */
  get size() {
    return this.#byId.size;
  }

  all() {
    return [...this.#byId.values()];
  }

  /** Since when the read model is known to be behind; `null` if it is not. */
  get staleSince() {
    return this.#staleSince;
  }

  /** Those that can be shown in this order without leaving anybody out in between, as far as the API has the order. */
  inOrder(order) {
    const byId = (one, other) => (one.id < other.id ? -1 : 1);
    let shown = this.all();
    if (order === BY_NAME) return shown.sort((one, other) => NAMES.compare(one.name, other.name) || byId(one, other));
    const { last } = this.#walks[order];
    if (!this.complete) {
      shown = shown.filter((patient) => last !== null && (order === BY_ID ? patient.id <= last : place(patient) >= last));
    }
    if (order === BY_ID) return shown.sort(byId);
    return shown.sort((one, other) => {
      const [at, otherAt] = [one.lastCheckinAt ?? "", other.lastCheckinAt ?? ""];
      if (at === otherAt) return byId(one, other);
      return at > otherAt ? -1 : 1;
    });
  }

  /** Looks what has changed; gives whether anything has. */
  async refresh(now, signal) {
    const [recent, byId] = [this.#walks[RECENT], this.#walks[BY_ID]];
    if (recent.pages <= 1 && byId.pages === 0) return this.#again(RECENT, signal);
    let changed = false;
    let cursor;
    do {
      const answer = await this.#api.get(url(RECENT, cursor), signal);
      changed ||= answer.changed;
      // From the first patient on who has not checked in since, nobody has.
      const reached = answer.body.patients.some((patient) => this.#byId.get(patient.id)?.lastCheckinAt === patient.lastCheckinAt);
      this.#learn(answer.body.patients);
      cursor = reached ? null : answer.body.nextCursor;
    } while (cursor);
    if (now - this.#walkedAt >= WALK_AGAIN) {
      for (const order of [RECENT, BY_ID]) changed = (await this.#again(order, signal)) || changed;
      this.#walkedAt = now;
    }
    return changed;
  }

  /** Loads one more page of this order, if there is one. */
  async more(order, signal) {
    const along = order === BY_NAME ? BY_ID : order;
    const walk = this.#walks[along];
    if (this.complete || walk.ended) return;
    const { body } = await this.#api.get(url(along, walk.next), signal);
    this.#take(along, walk, body);
  }

  /** Loads the pages of this order again, as many as were loaded, were it in the meantime; at least one of the recent ones. */
  async #again(order, signal) {
    const loaded = () => Math.max(this.#walks[order].pages, order === RECENT ? 1 : 0);
    const walk = new Walk();
    let changed = false;
    while (walk.pages < loaded() && !walk.ended) {
      const answer = await this.#api.get(url(order, walk.next), signal);
      changed ||= answer.changed;
      this.#take(order, walk, answer.body);
    }
    this.#walks[order] = walk;
    return changed;
  }

  #take(order, walk, { patients, nextCursor }) {
    this.#learn(patients);
    const last = patients.at(-1);
    if (last) walk.last = order === BY_ID ? last.id : place(last);
    walk.next = nextCursor;
    walk.pages += 1;
  }

  #learn(patients) {
    for (const patient of patients) this.#byId.set(patient.id, patient);
    // An answer says the same with each patient, and nothing if there is none.
    if (patients.length > 0) this.#staleSince = patients[0].staleSince ?? null;
  }
}

function url(order, cursor) {
  const query = new URLSearchParams({ sort: order, limit: PAGE });
  if (cursor) query.set("cursor", cursor);
  return `patients?${query}`;
}

/** Letters that are no others with a mark, for whoever has not got them on the keyboard. */
const PLAIN = { ł: "l", ø: "o", đ: "d", ð: "d", ħ: "h", ı: "i", æ: "ae", œ: "oe", ß: "ss", þ: "th" };

/** A text without what does not matter to a search: case, marks, and punctuation of names. */
export function plain(text) {
  return text
    .toLowerCase()
    .normalize("NFD")
    .replace(/\p{M}|['’ʼ]/gu, "")
    .replace(/[łøđðħıæœßþ]/g, (letter) => PLAIN[letter]);
}

/** Whether each word of `query` is somewhere in the patient's name or id. */
export function matches(patient, query) {
  const text = plain(`${patient.name} ${patient.id}`);
  return plain(query).split(/\s+/).every((word) => text.includes(word));
}
