// What a reader knows of a world, by the rules of docs/FRAMES.md, "What is said".

const GONE_MAX = 16_384, GONE_TICKS = 600, PENDING_MAX = 2, EPOCH = 2 ** 32;

/** The newest value of each key, by the newer rule. An *order* is (epoch, tick) as one number. */
export class WorldState {
  #order = 0;
  #floor = -1;          // of the publisher's newest whole keyframe: a key that it has not is gone as of then
  #gone = new Map();    // removed keys and the orders of their removal, oldest first
  #pending = new Map(); // keyframes whose parts are still coming: order -> {parts, keys}

  constructor() { this.values = new Map(); }
  get epoch() { return Math.floor(this.#order / EPOCH); }
  get tick() { return this.#order % EPOCH; }
  get(key) { return this.values.get(key)?.data; }
  keys() { return this.values.keys(); }
  get size() { return this.values.size; }

  /** Apply a decoded frame; answers the keys that changed. */
  apply(frame) {
    const changed = [], base = frame.epoch * EPOCH;
    let order = base + frame.tick;
    const own = order;
    for (const [key, data, tick] of frame.records) {
      if (base + tick > this.#orderAt(key)) { changed.push(key); this.#set(key, data, base + tick); }
      order = Math.max(order, base + tick);
    }
    this.#order = Math.max(this.#order, order);
    if (frame.keyframe) changed.push(...this.#keyframe(frame, own));
    return changed;
  }

  /** What a record of the key must exceed to be taken. */
  #orderAt(key) {
    return this.values.get(key)?.order ?? Math.max(this.#gone.get(key) ?? -1, this.#floor - 1);
  }

  #set(key, data, order) {
    this.#gone.delete(key);
    if (data !== null) { this.values.set(key, { order, data: data.slice() }); return; }
    this.values.delete(key);
    this.#gone.set(key, order);
    for (const [oldest, when] of this.#gone) {
      if (when >= this.#order - GONE_TICKS && this.#gone.size <= GONE_MAX) break;
      this.#gone.delete(oldest);
    }
  }

  /** Count a keyframe's part; once all are there, what none of them holds is gone. */
  #keyframe(frame, order) {
    if (!frame.parts || order < this.#floor) return [];
    const seen = this.#pending.get(order) ?? { parts: new Set(), keys: new Set() };
    this.#pending.set(order, seen);
    seen.parts.add(frame.part);
    for (const [key] of frame.records) seen.keys.add(key);
    if (seen.parts.size < frame.parts) {
      while (this.#pending.size > PENDING_MAX) this.#pending.delete(Math.min(...this.#pending.keys()));
      return [];
    }
    if (!frame.ticks) this.#floor = Math.max(this.#floor, order); // a gateway's may yet get older values of keys that it never saw
    for (const older of [...this.#pending.keys()]) if (older <= order) this.#pending.delete(older);
    const dropped = [...this.values].filter(([key, value]) => value.order < order && !seen.keys.has(key)).map(([key]) => key);
    for (const key of dropped) this.#set(key, null, order);
    return dropped;
  }
}
