// A session that stays: it tells a dead path from a quiet world, changes transports, renews its token, goes where its
// world goes, and ends where trying again would not help.

import { Emitter } from "./events.js";
import { attempts } from "./link.js";
import { hasUdp, reach } from "./reach.js";
import { Token } from "./token.js";
import { Watchdog } from "./watchdog.js";
import { control, decode, isParity } from "./wire.js";

const BACKOFF_MIN_MS = 50, BACKOFF_MAX_MS = 2000, WELCOME_MS = 10_000, WATCH_MS = 2500;
const UDP_AGAIN_MS = 10_000, UDP_AGAIN_MAX_MS = 320_000, UDP_WELL_MS = 60_000, HOPS_MAX = 4, TOKEN_AGAIN_MS = 1000;
const REFUSED = /^(unauthorized|grant_refused|forbidden|grant_ended)$/; // what another token may mend
const PASSES = /^(store|store_unavailable|overloaded|shutting_down|too_many|crowded|conflict|world_deleted)$/; // what time may mend
const CODES = { 3: "taken_over", 4: "publisher_present", 5: "malformed", 8: "grant_ended", 9: "unauthorized" }; // of a close without words

/** Why no session follows. `code` is the gateway's; `url` and `world` say where the world is, if that is why. */
export class GatewayRefused extends Error {
  constructor(code, detail, facts = {}) {
    super(detail);
    this.name = "GatewayRefused";
    Object.assign(this, { code, detail, world: facts.world, url: facts.url });
  }
}

/** A session that reconnects by itself. See README.md beside this file for the options and events. */
export class Session extends Emitter {
  #token = null;
  #renewal = 0;
  #retried = false;
  #timers = new Set();
  #wakes = new Set();
  #trial = null;      // a link that has no welcome yet: the first one, or one that may replace `link`
  #watchdog = null;
  #answering = "";    // the address of a gateway that has answered a ping
  #udpAgainMs = UDP_AGAIN_MS;
  #hops = 0;
  #ping = control("ping");

  constructor(url, world, { certificateHash = null, transport = "auto", query = {}, token = null, watchdogMs = WATCH_MS, signal = null } = {}) {
    super();
    if (!["auto", "webtransport", "websocket"].includes(transport)) throw new TypeError(`transport is auto, webtransport or websocket, not ${transport}`);
    Object.assign(this, { url: url.replace(/\/$/, ""), world, certificateHash, transport, query, watchdogMs });
    this.address = this.url;
    if (token !== null) this.#token = new Token(token);
    this.link = null; this.opening = null; this.closed = false; this.epoch = 0; this.wait = BACKOFF_MIN_MS;
    this.status = "idle"; this.fatal = null; this.error = null; this.malformed = 0;
    this.#watchdog = new Watchdog(watchdogMs, {
      link: () => this.link,
      ask: (link, again) => (again ? link.datagram(this.#ping) : link.stream(this.#ping)),
      suspect: link => this.#suspect(link),
    });
    this.onopen = this.oncontrol = this.onclose = () => {};
    if (signal?.aborted) this.close();
    else signal?.addEventListener("abort", () => this.close(), { once: true });
  }

  // -- what a user sees --

  /** Connect, and stay connected until close(). Resolves with the first welcome; rejects with GatewayRefused, or with
   *  AbortError where `signal` (or close()) came first: an aborted `signal` closes the session. */
  open({ signal = null } = {}) {
    if (this.started) return this.started;
    this.started = new Promise((resolve, reject) => { this.first = { resolve, reject }; });
    this.started.catch(() => {});
    if (signal?.aborted) this.close();
    else signal?.addEventListener("abort", () => this.close(), { once: true });
    if (this.closed) this.#over(); else this.#run();
    return this.started;
  }

  /** End it. Idempotent. */
  close() {
    this.closed = true;
    this.#calm();
    for (const link of [this.link, this.#trial]) link?.drop("closed");
    this.link = this.#trial = this.opening = null;
    this.#connecting?.abort();
    for (const wake of this.#wakes) wake();
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

  #connecting = null;

  async #run() {
    while (!this.closed) {
      this.#state("connecting");
      const asked = this.address, hops = this.#hops;
      let end = { reason: "", code: 0 }, served = false;
      try {
        const link = await this.#reach();
        served = true;
        end = await this.#served(link);
      } catch (error) { end = { reason: String(error?.message ?? error), code: error?.closeCode ?? 0 }; }
      this.#calm();
      this.link = this.opening = null;
      if (this.closed) return;
      if (!this.ending && CODES[end.code]) this.#failed({ code: CODES[end.code], message: end.reason || CODES[end.code] });
      this.ending = null;
      this.onclose(end.reason);
      this.emit("close", end.reason);
      if (this.closed) return;
      if (this.fatal) { this.#refused(); return; }
      if (this.#hops > hops) continue;
      this.#hops = 0;
      if (!served && asked !== this.url) this.address = this.url; // it knows where the world is now
      this.#state("waiting");
      await this.#pause(this.wait * (0.5 + Math.random() / 2));
      this.wait = Math.min(this.wait * 2, BACKOFF_MAX_MS);
    }
  }

  /** A link with a welcome. Throws where none can be had. */
  #reach() {
    this.#connecting = new AbortController();
    return this.#try(this.transport, this.#connecting.signal, (link, token) => {
      if (token) this.opening = link; else this.link = link;
      return true;
    });
  }

  /** Open a link and wait for its welcome. `place(link, token)` says who it is, and answers false where it is not wanted. */
  async #try(kind, signal, place) {
    const token = await this.#token?.current();
    const link = await this.#connect(kind, signal);
    if (this.closed || signal.aborted || !place(link, token)) { link.drop(); throw new Error("not wanted any more"); }
    this.#begin(link, token);
    const late = setTimeout(() => link.drop("no welcome"), WELCOME_MS);
    const end = await Promise.race([link.welcome, link.ended]);
    clearTimeout(late);
    if (end) throw Object.assign(new Error(end.reason || "the gateway ended the session"), { closeCode: end.code });
    return link;
  }

  /** A browser can set no header here: the token is the first message, and all else waits for the answer to it. */
  #begin(link, token) {
    link.welcome = new Promise(resolve => { link.said = () => resolve(null); });
    const early = link.early ?? [];
    link.early = null;
    for (const [bytes, isDatagram] of early) this.#message(link, bytes, isDatagram);
    if (token) link.stream(control("token", { token }));
    link.answersPings = this.#answering === this.address;
    link.stream(this.#ping);
  }

  #connect(kind, signal) {
    const query = new URLSearchParams(this.params()).toString(), path = this.path() + (query ? `?${query}` : "");
    const take = (link, bytes, isDatagram) => this.#received(link, bytes, isDatagram);
    const { address, certificateHash } = this;
    return reach({ address, path, kind, certificateHash, take, signal, pause: ms => this.#pause(ms) });
  }

  /** Until the session ends on whichever link it is by then. */
  async #served(link) {
    this.#watchdog.start();
    this.#lookForUdp();
    for (;;) {
      const end = await link.ended;
      if (this.link === link || !this.link) {
        if (!this.challenge) return end;
        const other = await this.challenge.catch(() => null); // one that was to replace it may be there in a moment
        if (!other) return end;
      }
      link = this.link;
      if (!link) return end;
    }
  }

  /** Open another link; once it has its welcome it takes over, without a break. `still()`: whether that is wanted. */
  #replace(kind, still) {
    if (this.challenge || this.closed) return this.challenge;
    this.challenge = (async () => {
      try {
        return await this.#try(kind, this.#connecting.signal, link => still() && (this.#trial = Object.assign(link, { wanted: still })));
      } finally {
        this.#trial?.drop();
        this.#trial = this.challenge = null;
      }
    })();
    this.challenge.catch(() => {});
    return this.challenge;
  }

  /** The link is silent. Whatever speaks first, it or another, stays. */
  #suspect(link) {
    if (this.challenge || link.suspected) return;
    link.suspected = true;
    const since = performance.now(), wanted = () => link.heardAt < since;
    const other = this.transport === "auto" ? "websocket" : this.transport;
    this.#replace(other, wanted)?.catch(() => {
      if (this.link === link && link.heardAt < since) link.drop("nothing was heard any more");
      link.suspected = false;
    });
  }

  /** Back to UDP from TCP, once it works: asked ever more rarely. */
  #lookForUdp() {
    if (this.transport !== "auto" || !hasUdp(this.address)) return;
    const later = () => {
      const wait = Math.max(this.#udpAgainMs * (1 + Math.random() / 4), attempts.waitMs);
      this.#timer(async () => {
        if (this.closed || !this.link) return;
        if (this.link.kind === "websocket") {
          this.#udpAgainMs = Math.min(2 * this.#udpAgainMs, UDP_AGAIN_MAX_MS);
          try { await this.#replace("webtransport", () => this.link?.kind === "websocket"); } catch { /* not yet */ }
        }
        later();
      }, wait);
    };
    later();
  }

  // -- what comes in --

  #received(link, bytes, isDatagram) {
    link.heardAt = performance.now();
    if (link !== this.link && link !== this.opening && link !== this.#trial) {
      if (!link.welcome && !link.over) (link.early ??= []).push([bytes, isDatagram]); // before it is known here
      return;
    }
    this.#message(link, bytes, isDatagram);
  }

  #message(link, bytes, isDatagram) {
    if (!isDatagram) { this.#take(link, bytes); return; }
    if (!isParity(bytes)) this.#take(link, bytes);
    const lost = this.rebuilder?.take(bytes);
    if (lost) { this.counts.rebuilt++; this.#take(link, lost); }
  }

  #take(link, bytes) {
    let message;
    try { message = decode(bytes); } catch { this.malformed++; return; }
    if (!message.control) { if (link === this.link) this.take(message, bytes.length); return; }
    const said = message.control;
    if (said.type === "pong") { link.answersPings = true; this.#answering = this.address; return; }
    if (link === this.#trial && said.type !== "welcome") return; // it counts once it is welcome
    if (said.type === "welcome") this.#welcome(link, said);
    else if (said.type === "resync") this.resetDue = said.reason === "seek";
    else if (said.type === "moved") this.#moved(link, said);
    else if (said.type === "error") this.#failed(said);
    else if (said.type === "bye") this.#bye(said);
    this.oncontrol(said);
    this.emit("control", said);
  }

  #welcome(link, said) {
    if (link === this.#trial) {
      if (this.follows() && !link.wanted()) { link.drop("not wanted any more"); return; } // a publisher's old link is gone by now
      const old = this.link;
      this.link = link;
      this.#trial = null;
      old?.drop("another connection took over");
    }
    if (link === this.opening) { this.link = link; this.opening = null; }
    this.wait = BACKOFF_MIN_MS;
    this.#hops = 0;
    this.#retried = false;
    if (link.kind === "webtransport") this.#timer(() => { if (this.link === link) this.#udpAgainMs = UDP_AGAIN_MS; }, UDP_WELL_MS);
    if (this.#token) this.#renewIn(this.#token.due - Date.now());
    if (said.resume || said.epoch !== this.epoch) this.resume = said.resume ?? null; // the right to come back to this epoch
    const before = this.epoch;
    this.epoch = said.epoch;
    this.welcomed(said, before);
    this.#state("open");
    link.said();
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
    if (!there.startsWith("/") && this.#follow(there)) setTimeout(() => link.drop("the world has moved"), 0);
  }

  /** Whether the gateway at `url` is asked next: never by clear text where we came by TLS, and not round in circles. */
  #follow(url) {
    let to;
    try { to = new URL(url).origin; } catch { return false; }
    if (!/^https?:/.test(to) || (/^https:/.test(this.url) && !/^https:/.test(to))) return false;
    if (to === this.address || this.#hops >= HOPS_MAX) return false;
    this.#hops++;
    this.address = to;
    return true;
  }

  #failed(said) {
    this.ending = said;
    if (this.follows() && said.code === "world_held" && said.url) {
      if (said.world) this.world = said.world;
      if (this.#follow(said.url)) return;
      if (this.#hops || this.address !== this.url) return; // round in circles while a world changes hands: come back later
    }
    if (REFUSED.test(said.code)) this.#mend(said.code, said.message);
    else if (!PASSES.test(said.code)) this.#refuse(said.code, said.message, said);
  }

  #bye(said) {
    this.ending = said;
    this.emit("bye", said);
    if (said.reconnect_after_ms) this.wait = Math.min(said.reconnect_after_ms, 60_000);
    if (/^(expired|revoked)$/.test(said.reason)) this.#mend("grant_ended", `the grant of this session is ${said.reason}`);
    else if (this.follows()) { if (said.url) this.#follow(said.url); }
    else if (/^(taken_over|takeover)$/.test(said.reason) || (said.reason === "moved" && said.url)) {
      this.#refuse("taken_over", `another publisher took the world over${said.url ? `, at ${said.url}` : ""}`, said);
    }
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

  /** A fresh token before the old one ends, on the session that is open. */
  #renewIn(ms) {
    clearTimeout(this.#renewal);
    if (!this.#token?.renews || !Number.isFinite(ms)) return;
    this.#renewal = setTimeout(async () => {
      let token;
      try { token = await this.#token.fresh(); } catch { this.#renewIn(TOKEN_AGAIN_MS); return; }
      if (this.closed) return;
      this.link?.stream(control("token", { token }));
      this.#renewIn(Math.max(this.#token.due - Date.now(), TOKEN_AGAIN_MS));
    }, Math.min(Math.max(ms, 0), 2 ** 31 - 1));
  }

  #state(status) { if (status !== this.status) { this.status = status; this.emit("status", status); } }

  #timer(call, ms) {
    const id = setTimeout(() => { this.#timers.delete(id); call(); }, ms);
    this.#timers.add(id);
  }

  /** No timer of the session that was goes on. */
  #calm() {
    clearTimeout(this.#renewal);
    this.#watchdog.stop();
    for (const id of this.#timers) clearTimeout(id);
    this.#timers.clear();
  }

  /** Wait, but not beyond what makes it worth trying: the machine is online again, the page is looked at, or it closes. */
  #pause(ms) {
    if (!(ms > 0)) return Promise.resolve();
    return new Promise(done => {
      const over = () => { clearTimeout(id); globalThis.removeEventListener?.("online", over); this.#wakes.delete(over); done(); };
      const id = setTimeout(over, ms);
      globalThis.addEventListener?.("online", over);
      this.#wakes.add(over);
    });
  }
}
