// Watching a world's past (docs/RECOVERY.md, "Replay sessions").

import { Subscriber } from "./subscriber.js";

const WAITING_MAX = 16;

/** Why a command was not done. */
export class CommandRefused extends Error {
  constructor(code, detail) {
    super(detail ?? code);
    this.name = "CommandRefused";
    Object.assign(this, { code, detail: detail ?? code });
  }
}

/** A viewer of a recording. Each command resolves with the place that it led to: {epoch, tick, at_us, speed, ended}.
 *  `from`: where it begins, one of {tick, epoch}, {at}, {mark}; `speed` and `paused` as in the query. After a connection
 *  was lost it goes on from where it was. */
export class Replay extends Subscriber {
  #waiting = [];
  #asked = 0;
  #done = 0;
  #begun = { paused: false, place: null }; // as the newest connection asked

  constructor(url, world, { from = {}, speed = null, paused = false, ...options } = {}) {
    super(url, world, options);
    this.from = from;
    this.speed = speed;
    this.paused = paused;
    this.place = null;
    this.resetDue = true;
  }

  play(speed) { return this.#command("play", speed === undefined ? {} : { speed }); }
  pause() { return this.#command("pause"); }
  /** `to`: one of {tick, epoch}, {at}, {mark}. */
  seek(to) { return this.#command("seek", to); }
  /** So many recorded ticks on, or back where it is negative; pauses. */
  step(n = 1) { return this.#command("step", { n }); }
  /** The world as it is now; any other command goes back to the past. */
  live() { return this.#command("live"); }

  path() { return `/v1/worlds/${encodeURIComponent(this.world)}/replay`; }
  follows() { return false; }

  params() {
    this.#begun = { paused: this.paused, place: this.place };
    const { redundancy, ...query } = this.query, here = this.place && !this.isLive ? { epoch: this.place.epoch, tick: this.place.tick } : this.from;
    return { ...here, ...(this.speed === null ? {} : { speed: this.speed }), ...(this.paused ? { paused: 1 } : {}), ...query };
  }

  /** Each session begins with a seek, and a play unless it is paused: their answers are nobody's. */
  welcomed(_, __, isNew) {
    if (!isNew) { this.#answer(this.#next(type => type === "live"), null); return; } // the world as it is now
    this.#disconnected(); // where another connection took over
    this.resetDue = true;
    const { paused, place } = this.#begun, asked = paused ? ["seek"] : ["seek", "play"];
    this.#waiting = asked.map(type => ({ type, fields: {}, number: ++this.#asked, resolve() {}, reject: error => super.emit("command-refused", error) }));
    const again = promise => promise.catch(() => {});
    if (this.isLive) { this.isLive = false; again(this.live()); return; }
    // What another connection was told while this one was made.
    if (this.paused && !paused) again(this.pause());
    if (this.paused && this.place !== place) again(this.seek({ epoch: this.place.epoch, tick: this.place.tick }));
    if (paused && !this.paused) again(this.play(this.speed ?? undefined));
  }

  emit(type, ...values) {
    if (type === "control") this.#told(values[0]);
    if (type === "close") this.#disconnected();
    super.emit(type, ...values);
  }

  take(frame, size) {
    if (!this.isLive) this.place = { ...this.place, epoch: frame.epoch, tick: frame.tick };
    super.take(frame, size);
  }

  #command(type, fields = {}) {
    if (!this.link?.isWelcome) return Promise.reject(new CommandRefused("disconnected", "there is no connection"));
    if (this.#waiting.length >= WAITING_MAX) return Promise.reject(new CommandRefused("too_many", `${WAITING_MAX} commands wait already; wait for their answers`));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ type, fields, number: ++this.#asked, resolve, reject });
      this.control(type, fields);
    });
  }

  #told(said) {
    if (said.type === "refused") {
      this.#next(type => type === said.command)?.reject(new CommandRefused(said.code, said.message));
    } else if (said.type === "position") {
      const { type: _, ...place } = said;
      this.place = place;
      if (!place.ended) this.#answer(this.#next(type => type !== "live"), place); // the end of the film answers nothing
      super.emit("position", place);
    } else if (said.type === "gap") super.emit("gap", said);
  }

  /** The oldest command that waits and is of such a type; it waits no more. */
  #next(is) {
    const at = this.#waiting.findIndex(wait => is(wait.type));
    return at < 0 ? null : this.#waiting.splice(at, 1)[0];
  }

  #disconnected() {
    for (const wait of this.#waiting.splice(0)) wait.reject(new CommandRefused("disconnected", `the connection ended before ${wait.type} was answered`));
  }

  #answer(wait, place) {
    if (!wait) return;
    if (wait.number > this.#done) this.#follow(wait); // an answer may be overtaken: they come by several streams
    wait.resolve(place);
  }

  #follow({ type, fields, number }) {
    this.#done = number;
    this.isLive = type === "live";
    if (this.isLive) this.resetDue = false; // the present is newer than any past: its keyframe replaces that by itself
    if (type === "play") { this.paused = false; this.speed = fields.speed ?? this.speed; }
    if (type === "pause" || type === "step") this.paused = true;
  }
}
