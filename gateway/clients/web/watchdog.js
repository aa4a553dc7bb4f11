// Telling a dead path from a quiet world: by itself a browser takes 18 to 50 s to give a path up.

const SLEPT_MS = 1500, NO_LINK_MS = 200, ROUND_TRIPS = 2, SAMPLES = 4;
/** Parts of `ms`: silence before it asks, from there to asking again, and to where it believes no longer. What is left of
 *  `ms`, and of the half second after it, is for the handshakes of another connection. */
const QUIET = 0.32, AGAIN = 0.16, SILENT = 0.32;

const PAGE = { now: () => performance.now(), set: (call, ms) => setTimeout(call, ms), clear: id => clearTimeout(id) };

/** Asks where nothing was heard for a while, once more where no answer came, and then calls `suspect(link)`: it is to look
 *  for another connection, and to stay where this one speaks first. On a slow path it waits for two round trips. `link()`:
 *  the one in use, or null; `ask(link, again)` sends a ping. A gateway that never answered one is an older one, and its
 *  silence means nothing. */
export class Watchdog {
  #timer = null;
  #due = 0;
  #askedAt = 0;
  #again = false;
  #roundTrips = [];

  constructor(ms, { link, ask, suspect, clock = PAGE }) { Object.assign(this, { ms, link, ask, suspect, clock }); }

  start() {
    this.clock.clear(this.#timer);
    if (this.ms) this.#next(this.ms * QUIET);
  }

  stop() { this.clock.clear(this.#timer); this.#askedAt = 0; this.#roundTrips = []; }

  /** The gateway answered a ping after so long. The shortest of a few counts, for a page may be busy. */
  answered(tripMs) { this.#roundTrips = [...this.#roundTrips, tripMs].slice(-SAMPLES); }

  get #patience() {
    const trip = this.#roundTrips.length ? Math.min(...this.#roundTrips) : 0;
    return Math.max(this.ms * SILENT, ROUND_TRIPS * trip);
  }

  #next(ms) {
    this.#due = this.clock.now() + ms;
    this.#timer = this.clock.set(() => this.#next(this.#look()), ms);
  }

  /** What is due now; answers in how many milliseconds to look again. */
  #look() {
    const now = this.clock.now(), hasSlept = now - this.#due > SLEPT_MS, link = this.link();
    if (!link) { this.#askedAt = 0; return NO_LINK_MS; }
    if (hasSlept || link.heardAt > this.#askedAt) this.#askedAt = 0; // it was the page that slept, not the path: ask anew
    if (!this.#askedAt) {
      const left = this.ms * QUIET - (now - link.heardAt);
      if (left > 0) return left;
      this.#askedAt = now;
      this.#again = false;
      this.ask(link, false);
      return this.ms * AGAIN;
    }
    const waited = now - this.#askedAt, patience = this.#patience;
    if (!this.#again) { this.#again = true; this.ask(link, true); }
    if (waited < patience) return patience - waited;
    if (link.answersPings) this.suspect(link);
    return this.ms * AGAIN;
  }
}
