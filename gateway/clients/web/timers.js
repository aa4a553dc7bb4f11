// Timers that end together, and waits that are cut short where that is worth it.

export class Timers {
  #timers = new Set();
  #wakes = new Set();

  /** Call it in so many milliseconds, unless clear() comes first. */
  after(ms, call) {
    const id = setTimeout(() => { this.#timers.delete(id); call(); }, ms);
    this.#timers.add(id);
  }

  clear() {
    for (const id of this.#timers) clearTimeout(id);
    this.#timers.clear();
  }

  /** Wait, but not beyond what makes it worth trying: the machine is online again, or wake() was called. */
  pause(ms) {
    if (!(ms > 0)) return Promise.resolve();
    return new Promise(done => {
      const over = () => { clearTimeout(id); globalThis.removeEventListener?.("online", over); this.#wakes.delete(over); done(); };
      const id = setTimeout(over, ms);
      globalThis.addEventListener?.("online", over);
      this.#wakes.add(over);
    });
  }

  /** No pause goes on. */
  wake() { for (const over of this.#wakes) over(); }
}
