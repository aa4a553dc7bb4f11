// What a reader knows of a world.

/** The newest value of each key, by the newer rule (frame-wire, "World state"). */
export class WorldState {
  constructor() { this.epoch = 0; this.tick = 0; this.values = new Map(); this.gone = new Map(); this.whole = new Map(); }
  get(key) { return this.values.get(key)?.data; }
  keys() { return this.values.keys(); }
  get size() { return this.values.size; }

  /** Apply a decoded frame; answers the keys that changed. */
  apply(frame) {
    const changed = [];
    for (const [key, data, tick] of frame.records) {
      const order = frame.epoch * 2 ** 32 + tick;
      const known = this.values.get(key)?.order ?? this.gone.get(key) ?? -1;
      if (order <= known) continue;
      this.gone.delete(key);
      if (data === null) { this.values.delete(key); this.gone.set(key, order); }
      else this.values.set(key, { order, data: data.slice() });
      changed.push(key);
    }
    while (this.gone.size > 65536) this.gone.delete(this.gone.keys().next().value);
    const order = frame.epoch * 2 ** 32 + frame.tick;
    if (order > this.epoch * 2 ** 32 + this.tick) { this.epoch = frame.epoch; this.tick = frame.tick; }
    if (frame.keyframe) changed.push(...this.#keyframe(frame, order));
    return changed;
  }

  #keyframe(frame, order) {
    if (!frame.parts) return [];
    const seen = this.whole.get(order) ?? { parts: new Set(), keys: new Set() };
    this.whole.set(order, seen);
    while (this.whole.size > 8) this.whole.delete(this.whole.keys().next().value);
    seen.parts.add(frame.part);
    for (const [key] of frame.records) seen.keys.add(key);
    if (seen.parts.size < frame.parts) return [];
    this.whole.delete(order);
    const dropped = [...this.values].filter(([key, v]) => v.order < order && !seen.keys.has(key)).map(([key]) => key);
    for (const key of dropped) this.values.delete(key);
    return dropped;
  }
}
