// Following a world.

import { Session } from "./session.js";
import { WorldState } from "./state.js";
import { Rebuilder } from "./wire.js";

/** Follows a world. `state` is a WorldState; onframe(frame, changedKeys) after each message that says anything new. Where the
 *  path loses, newest values come twice, or a frame's parity does; `query: { redundancy: "off" }` for neither. */
export class Subscriber extends Session {
  constructor(url, world, options = {}) {
    super(url, world, options);
    this.state = new WorldState();
    this.rebuilder = new Rebuilder();
    this.counts = { messages: 0, bytes: 0, repaired: 0, keyframes: 0, repeated: 0, rebuilt: 0 };
    this.onframe = () => {};
  }

  /** These keys matter more or less from now on; it replaces what was said before. `weights`: one a key, 4 if not given. */
  focus(keys, weights) {
    const fields = { keys: [...keys], ...(weights ? { weights: [...weights] } : {}) };
    this.focused = fields;
    this.control("focus", fields);
  }

  params() { const { redundancy, ...query } = this.query; return { role: "subscribe", ...query }; }
  follows() { return true; }
  forget() { this.state = new WorldState(); }
  welcomed() {
    // Not in the query: a gateway that has no redundancy ignores the message, but would refuse the keys.
    if (this.link.kind === "webtransport") this.control("redundancy", { mode: this.query.redundancy ?? "auto", parity: true });
    if (this.focused) this.control("focus", this.focused);
  }

  take(frame, size) {
    this.counts.messages++; this.counts.bytes += size;
    if (frame.keyframe) this.counts.keyframes++;
    if (frame.keyframe && this.resetDue) { this.state = new WorldState(); this.resetDue = false; }
    const again = frame.epoch === this.state.epoch && frame.tick === this.state.tick;
    const changed = this.state.apply(frame);
    if (again && !changed.length && frame.records.length && !frame.keyframe && !frame.repair) { this.counts.repeated++; return; }
    if (frame.repair) this.counts.repaired += changed.length;
    this.onframe(frame, changed);
    if (this.has("frame")) this.emit("frame", frame, changed);
  }
}
