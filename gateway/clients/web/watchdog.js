// Telling a dead path from a quiet world: by itself a browser takes 18 to 50 s to give a path up.

const LOOK_MS = 200, SLEPT_MS = 1500;

/** Asks where nothing was heard for 0.4 of `ms`, once more after a quarter, and calls `suspect(link)` where nothing came
 *  within half of `ms`. `link()`: the one in use, or null; `ask(link, again)` sends a ping. A gateway that never answered
 *  one is an older one, and its silence means nothing. */
export class Watchdog {
  #timer = 0;
  #askedAt = 0;
  #again = false;
  #looked = 0;

  constructor(ms, { link, ask, suspect }) { Object.assign(this, { ms, link, ask, suspect }); }

  start() {
    this.stop();
    if (!this.ms) return;
    this.#looked = performance.now();
    this.#timer = setInterval(() => this.#look(performance.now()), LOOK_MS);
  }

  stop() { clearInterval(this.#timer); this.#askedAt = 0; }

  #look(now) {
    if (now - this.#looked > SLEPT_MS) this.#askedAt = 0; // it was the page that slept, not the path: ask anew
    this.#looked = now;
    const link = this.link();
    if (!link) { this.#askedAt = 0; return; }
    if (link.heardAt > this.#askedAt) this.#askedAt = 0;
    if (now - link.heardAt < this.ms * 0.4) return;
    if (!this.#askedAt) { this.#askedAt = now; this.#again = false; this.ask(link, false); return; }
    const waited = now - this.#askedAt;
    if (!this.#again && waited > this.ms * 0.25) { this.#again = true; this.ask(link, true); }
    if (waited >= this.ms * 0.5 && link.answersPings) this.suspect(link);
  }
}
