// A session that stays: it goes where its world goes, comes back, and ends where trying again would not help. Its parts:
// paths.js (connections), home.js (which gateway), refusals.js (what an end means), token.js (renewal).

import { Emitter } from "./events.js";
import { Home } from "./home.js";
import { Paths } from "./paths.js";
import { reach } from "./reach.js";
import { GatewayRefused, isOfToken, mendedBy, ofBye, ofClose } from "./refusals.js";
import { Timers } from "./timers.js";
import { Renewal, Token } from "./token.js";
import { control, decode, isControl, isParity } from "./wire.js";

/** What counts at once, also where it comes before `welcome`. */
const FIRST = new Set(["welcome", "pong", "error", "bye"]);
const BACKOFF_MIN_MS = 50, BACKOFF_MAX_MS = 2000, BACKOFF_ASKED_MAX_MS = 60_000, WATCH_MS = 2500;

/** A session that reconnects by itself. See README.md beside this file for the options and events. */
export class Session extends Emitter {
  #token = null;
  #renewal;
  #retried = false;
  #timers = new Timers();
  #home;
  #paths;
  #heard = {
    welcome: (said, link) => this.#welcome(link, said),
    resync: said => { this.resetDue = said.reason === "seek"; },
    moved: (said, link) => this.#moved(link, said),
    error: said => this.#failed(said),
    bye: said => this.#bye(said),
  };

  constructor(url, world, { certificateHash = null, transport = "auto", query = {}, token = null, watchdogMs = WATCH_MS, signal = null } = {}) {
    super();
    if (!["auto", "webtransport", "websocket"].includes(transport)) throw new TypeError(`transport is auto, webtransport or websocket, not ${transport}`);
    Object.assign(this, { url: url.replace(/\/$/, ""), world, certificateHash, transport, query });
    this.#home = new Home(this.url);
    if (token !== null) this.#token = new Token(token);
    this.#renewal = new Renewal(this.#token, fresh => this.control("token", { token: fresh }));
    this.#paths = new Paths(transport, watchdogMs, {
      connect: (kind, signal, take) => this.#connect(kind, signal, take),
      token: async () => this.#token?.current(),
      hear: (link, bytes, isDatagram) => this.#message(link, bytes, isDatagram),
      address: () => this.address,
      isPatient: () => this.follows(), // a publisher's old link is gone by the time that another has its welcome
      timers: this.#timers,
    });
    this.closed = false; this.epoch = 0; this.wait = BACKOFF_MIN_MS;
    this.status = "idle"; this.fatal = null; this.error = null; this.malformed = 0;
    this.onopen = this.oncontrol = this.onclose = () => {};
    if (signal?.aborted) { this.closed = true; this.status = "closed"; } // nothing of it is there yet to be closed
    else this.#endsWith(signal);
  }

  // -- what a user sees --

  get link() { return this.#paths.link; }

  /** The gateway that is asked: another one than `url` where the world has moved. */
  get address() { return this.#home.address; }

  /** Connect, and stay connected until close(). Resolves with the first welcome; rejects with GatewayRefused, or with
   *  AbortError where `signal` (or close()) came first: an aborted `signal` closes the session. */
  open({ signal = null } = {}) {
    if (this.started) return this.started;
    this.started = new Promise((resolve, reject) => { this.first = { resolve, reject }; });
    this.started.catch(() => {});
    this.#endsWith(signal);
    if (this.closed) this.#over(); else this.#run();
    return this.started;
  }

  /** End it. Idempotent. */
  close() {
    this.closed = true;
    this.#calm();
    this.#paths.close();
    this.#timers.wake();
    if (this.status !== "refused") this.#state("closed");
    this.#over();
  }

  /** Send a control message ("focus", or "play", "pause", "seek" in a replay). */
  control(type, fields) { this.link?.stream(control(type, fields)); }

  // -- what the ends fill in --

  params() { return this.query; }
  take() {}
  welcomed() {}
  forget() {}
  path() { return `/v1/worlds/${encodeURIComponent(this.world)}/live`; }
  follows() { return false; }

  // -- staying --

  async #run() {
    while (!this.closed) {
      this.#state("connecting");
      const asked = this.address, hops = this.#home.hops;
      let end = { reason: "", code: 0 }, served = false;
      try {
        const link = await this.#paths.reach();
        served = true;
        end = await this.#paths.served(link);
      } catch (error) { end = { reason: String(error?.message ?? error), code: error?.closeCode ?? 0 }; }
      this.#calm();
      this.#paths.forget();
      if (this.closed) return;
      this.#ended(end);
      if (this.closed) return;
      if (this.fatal) { this.#refused(); return; }
      if (this.#home.hops > hops) continue;
      this.#home.arrived();
      if (!served && asked !== this.url) this.#home.back();
      this.#state("waiting");
      await this.#timers.pause(this.wait * (0.5 + Math.random() / 2));
      this.wait = Math.min(this.wait * 2, BACKOFF_MAX_MS);
    }
  }

  #ended(end) {
    const said = this.ending ? null : ofClose(end);
    if (said) this.#failed(said);
    this.ending = null;
    this.onclose(end.reason);
    this.emit("close", end.reason);
  }

  #connect(kind, signal, take) {
    const query = new URLSearchParams(this.params()).toString(), path = this.path() + (query ? `?${query}` : "");
    const { address, certificateHash } = this;
    return reach({ address, path, kind, certificateHash, take, signal, pause: ms => this.#timers.pause(ms) });
  }

  // -- what comes in --

  #message(link, bytes, isDatagram) {
    if (!link.isWelcome && !this.#isFirst(bytes)) { this.#paths.keep(link, bytes, isDatagram); return; }
    if (!isDatagram) { this.#take(link, bytes); return; }
    if (!isParity(bytes)) this.#take(link, bytes);
    const lost = this.rebuilder?.take(bytes);
    if (lost) { this.counts.rebuilt++; this.#take(link, lost); }
  }

  #isFirst(bytes) {
    if (!isControl(bytes)) return false;
    try { return FIRST.has(decode(bytes).control.type); } catch { return true; } // counted as malformed
  }

  #take(link, bytes) {
    let message;
    try { message = decode(bytes); } catch { this.malformed++; return; }
    if (!message.control) { if (link === this.link) this.take(message, bytes.length); return; }
    const said = message.control;
    if (said.type === "pong") { this.#paths.answered(link); return; }
    if (this.#paths.isTrial(link) && said.type !== "welcome") return; // it counts once it is welcome
    if (Object.hasOwn(this.#heard, said.type)) this.#heard[said.type](said, link);
    this.oncontrol(said);
    this.emit("control", said);
    if (said.type === "welcome") for (const [early, isDatagram] of this.#paths.kept(link)) if (!link.over) this.#message(link, early, isDatagram);
  }

  #welcome(link, said) {
    const isNew = !link.isWelcome;
    if (!this.#paths.welcomed(link)) return;
    this.wait = BACKOFF_MIN_MS;
    this.#home.arrived();
    this.#retried = false;
    this.#renewal.start();
    if (said.resume || said.epoch !== this.epoch) this.resume = said.resume ?? null; // the right to come back to this epoch
    const before = this.epoch;
    this.epoch = said.epoch;
    this.welcomed(said, before, isNew);
    this.#state("open");
    this.first?.resolve(said);
    this.first = null;
    this.onopen(said);
    this.emit("open", said, link.kind);
  }

  #moved(link, said) {
    const there = String(said.url ?? "");
    this.emit("moved", said);
    if (!this.follows()) return;
    if (said.world) this.world = said.world;
    this.forget();
    if (!there.startsWith("/") && this.#home.follow(there)) setTimeout(() => link.drop("the world has moved"), 0);
  }

  #failed(said) {
    this.ending = said;
    if (this.follows() && said.code === "world_held" && said.url) {
      if (said.world) this.world = said.world;
      if (this.#home.follow(said.url)) return;
      if (this.#home.isAway) return; // round in circles while a world changes hands: come back later
    }
    const by = mendedBy(said.code);
    if (by === "token") this.#mend(said.code, said.message);
    else if (by === "nothing") this.#refuse(said.code, said.message, said);
  }

  #bye(said) {
    this.ending = said;
    this.emit("bye", said);
    if (said.reconnect_after_ms) this.wait = Math.min(said.reconnect_after_ms, BACKOFF_ASKED_MAX_MS);
    if (isOfToken(said)) { this.#mend("grant_ended", `the grant of this session is ${said.reason}`); return; }
    if (this.follows()) { if (said.url) this.#home.follow(said.url); return; }
    const why = ofBye(said);
    if (why) this.#refuse("taken_over", why, said);
  }

  /** A refusal ends it, but where a fresh token may be let in: that is tried once. */
  #mend(code, why) {
    if (!this.#token?.renews || this.#retried) { this.#refuse(code, why); return; }
    this.#retried = true;
    this.#token.due = 0;
  }

  #refuse(code, why, facts) { this.fatal = why; this.error = new GatewayRefused(code, why, facts); }

  #refused() {
    this.closed = true;
    this.#state("refused");
    this.emit("refused", this.error.code, this.error.detail, this.error);
    this.#over();
  }

  #over() {
    this.first?.reject(this.error ?? new DOMException("the session was closed", "AbortError"));
    this.first = null;
    this.ended?.();
  }

  // -- small things --

  #state(status) { if (status !== this.status) { this.status = status; this.emit("status", status); } }

  #endsWith(signal) {
    if (signal?.aborted) this.close();
    else signal?.addEventListener("abort", () => this.close(), { once: true });
  }

  /** No timer of the session that was goes on. */
  #calm() { this.#renewal.stop(); this.#paths.calm(); }
}
