// Publishing a world.

import { Session } from "./session.js";
import { control, encodeFrame } from "./wire.js";

const SETTLE_MS = 250, PART_BYTES = 262_144, DATAGRAMS_MAX = 32;

/** Publishes a world: send(records) with key -> Uint8Array (null removes); never waits. `takeover: true` replaces the
 *  publisher that is there. A page isn't told which datagrams were lost: a record's last value, once it has stood still
 *  for a quarter of a second, goes again by a stream, which loses nothing. */
export class Publisher extends Session {
  #unsure = new Map(); // key -> [when it went, the tick that set it]: its newest value went by datagram, or not at all
  #settling = 0;
  #waiting = new Set();

  constructor(url, world, options = {}) {
    super(url, world, options);
    this.tick = 0; this.live = new Map(); this.durable = null; this.due = false;
    this.takeover = !!options.takeover;
    if (options.epoch) { this.epoch = options.epoch; this.resume = options.resume ?? null; }
    this.counts = { frames: 0, keyframes: 0, repaired: 0, changed: 0 };
  }

  params() {
    return {
      role: "publish", ...(this.takeover ? { takeover: 1 } : {}), ...(this.epoch ? { epoch: this.epoch } : {}),
      ...(this.epoch && this.resume ? { resume: this.resume } : {}), ...this.query,
    };
  }

  welcomed(welcome, before) {
    this.takeover = false;
    if (welcome.epoch !== before) this.#unsure.clear();
    this.tick = Math.max(this.tick, welcome.tick ?? 0); // what the gateway changed counts too
    this.#mark(welcome.durable);
    this.link.stream(control("changes"));
    this.due = this.counts.frames > 0;
    if (this.due) this.keyframe();
    clearInterval(this.#settling);
    this.#settling = setInterval(() => this.#settle(), SETTLE_MS / 2);
  }

  close() { clearInterval(this.#settling); super.close(); }

  /** Send one frame; answers its tick. Before there is a connection the newest values wait for it. */
  send(records) {
    if (this.error) throw this.error;
    this.tick++;
    this.counts.frames++;
    const rows = records instanceof Map ? records : new Map(Object.entries(records).map(([k, v]) => [Number(k), v]));
    for (const [key, data] of rows) { if (data) this.live.set(key, data); else this.live.delete(key); }
    if (!this.link || this.status !== "open" || this.link.busy) { this.due = true; return this.tick; }
    if (this.due) { this.keyframe(); return this.tick; }
    this.#frame([...rows]);
    return this.tick;
  }

  /** Send every live record again. */
  keyframe() {
    if (!this.link) { this.due = true; return; }
    this.due = false;
    this.counts.keyframes++;
    this.#unsure.clear();
    const rows = [...this.live], max = this.link.kind === "websocket" ? this.link.max : PART_BYTES;
    this.link.stream(...encodeFrame(this.epoch, this.tick, rows, { max, keyframe: true }));
  }

  /** Resolves once everything up to `tick` (the newest, if not given) is in the store. */
  waitDurable(tick = this.tick, { signal = null } = {}) {
    return new Promise((resolve, reject) => {
      const wait = { epoch: this.epoch, tick, resolve, reject };
      if (this.error) { reject(this.error); return; }
      if (this.#isDurable(wait)) { resolve(this.durable); return; }
      this.#waiting.add(wait);
      signal?.addEventListener("abort", () => { this.#waiting.delete(wait); reject(signal.reason); }, { once: true });
    });
  }

  /** What the gateway itself changed: entities that went to sleep, or woke. A keyframe of ours must not undo it. */
  take(frame) {
    if (frame.epoch !== this.epoch) return;
    for (const [key, data] of frame.records) {
      if (data) this.live.set(key, data.slice()); else this.live.delete(key);
      this.#unsure.delete(key);
    }
    this.tick = Math.max(this.tick, frame.tick);
    this.counts.changed += frame.records.length;
    this.emit("changed", new Map(frame.records.map(([key, data]) => [key, data && data.slice()])));
  }

  emit(type, ...values) {
    if (type === "control" && values[0].type === "durable") { this.#mark(values[0]); super.emit("durable", this.durable); }
    if (type === "control" && values[0].type === "notice") super.emit("notice", values[0]);
    if (type === "close") clearInterval(this.#settling);
    super.emit(type, ...values);
  }

  ended() { for (const wait of this.#waiting) wait.reject(this.error ?? new DOMException("the session was closed", "AbortError")); this.#waiting.clear(); }

  #frame(rows) {
    const link = this.link, now = performance.now();
    const messages = encodeFrame(this.epoch, this.tick, rows, { max: link.max });
    if (link.kind === "websocket") { link.stream(...messages); return; }
    if (messages.length > DATAGRAMS_MAX || messages.some(message => message.length > link.max)) { link.stream(...messages); for (const [key] of rows) this.#unsure.delete(key); return; }
    for (const [key] of rows) this.#unsure.set(key, [now, this.tick]);
    for (const message of messages) link.datagram(message);
  }

  #settle() {
    if (!this.link || this.status !== "open" || this.link.busy) return;
    if (this.due) { this.keyframe(); return; }
    const before = performance.now() - SETTLE_MS, rows = [];
    for (const [key, [when, tick]] of this.#unsure) {
      if (when > before) continue;
      rows.push([key, this.live.get(key) ?? null, tick]);
      this.#unsure.delete(key);
    }
    if (!rows.length) return;
    this.counts.repaired += rows.length;
    this.link.stream(...encodeFrame(this.epoch, this.tick, rows, { max: PART_BYTES, repair: true, ticks: true }));
  }

  #mark(durable) {
    if (!durable) return;
    this.durable = { epoch: durable.epoch, tick: durable.tick };
    for (const wait of this.#waiting) if (this.#isDurable(wait)) { this.#waiting.delete(wait); wait.resolve(this.durable); }
  }

  #isDurable({ epoch, tick }) {
    return !!this.durable && (this.durable.epoch > epoch || (this.durable.epoch === epoch && this.durable.tick >= tick));
  }
}
