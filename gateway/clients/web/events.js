// Events: typed by name in mvgateway.d.ts.

export class Emitter {
  #listeners = new Map();

  /** Call `listener` at each event of `type`. Answers a function that ends it; so does `signal`. */
  on(type, listener, { signal = null } = {}) {
    if (signal?.aborted) return () => {};
    const set = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, set.add(listener));
    const off = () => { set.delete(listener); signal?.removeEventListener("abort", off); };
    signal?.addEventListener("abort", off, { once: true });
    return off;
  }

  /** Whether anybody listens. */
  has(type) { return !!this.#listeners.get(type)?.size; }

  /** A listener that throws is a fault of its own: the session goes on. */
  emit(type, ...values) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try { listener(...values); } catch (error) { console.error(error); }
    }
  }
}
