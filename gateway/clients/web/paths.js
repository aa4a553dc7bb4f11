// The connections of a session: the one in use, and another one that may replace it without a break.

import { attempts } from "./link.js";
import { hasUdp } from "./reach.js";
import { Watchdog } from "./watchdog.js";
import { control } from "./wire.js";

const WELCOME_MS = 10_000, EARLY_BYTES_MAX = 32 << 20, UDP_AGAIN_MS = 10_000, UDP_AGAIN_MAX_MS = 320_000, UDP_WELL_MS = 60_000;
const PING = control("ping");

/** `connect(kind, signal, take)` opens a link, whose messages go to `take`; `token()` answers what it says first, or nothing;
 *  `hear(link, bytes, isDatagram)` gets what counts; `address()` is the gateway's; `timers` end with each session. */
export class Paths {
  link = null;
  #opening = null;    // a link that carries a token and has no welcome yet: nothing of it is in use
  #trial = null;      // one that may replace `link` once it has its welcome
  #challenge = null;  // what it will come to
  #connecting = null;
  #answering = "";    // the address of a gateway that has answered a ping
  #udpAgainMs = UDP_AGAIN_MS;
  #watchdog;

  constructor(transport, watchdogMs, { connect, token, hear, address, isPatient, timers }) {
    Object.assign(this, { transport, connect, token, hear, address, isPatient, timers });
    this.#watchdog = new Watchdog(watchdogMs, {
      link: () => this.link,
      ask: (link, again) => {
        if (again) { link.datagram(PING); return; }
        link.askedAt = performance.now();
        link.stream(PING);
      },
      suspect: link => this.#suspect(link),
    });
  }

  /** A link with a welcome. Throws where none can be had. */
  reach() {
    this.#connecting = new AbortController();
    return this.#try(this.transport, this.#connecting.signal, (link, token) => {
      if (token) this.#opening = link; else this.link = link;
      return true;
    });
  }

  /** Until the session ends, on whichever link it is by then: {reason, code}. */
  async served(link) {
    this.#watchdog.start();
    this.#lookForUdp();
    for (;;) {
      const end = await link.ended;
      if (this.link === link || !this.link) {
        if (!this.#challenge) return end;
        const other = await this.#challenge.catch(() => null); // one that was to replace it may be there in a moment
        if (!other) return end;
      }
      link = this.link;
      if (!link) return end;
    }
  }

  /** Nothing of the session that was goes on. */
  calm() { this.#watchdog.stop(); this.timers.clear(); }

  /** No link is in use. */
  forget() { this.link = this.#opening = null; }

  /** Let go of all. */
  close() {
    this.closed = true;
    for (const link of [this.link, this.#opening, this.#trial]) link?.drop("closed");
    this.#trial = null;
    this.forget();
    this.#connecting?.abort();
  }

  isTrial(link) { return link === this.#trial; }

  /** A pong: this gateway answers, so its silence will mean something. */
  answered(link) {
    link.answersPings = true;
    this.#answering = this.address();
    if (link.askedAt) this.#watchdog.answered(performance.now() - link.askedAt);
    link.askedAt = 0;
  }

  /** A link is welcome; answers whether it is in use from here on. */
  welcomed(link) {
    if (link === this.#trial) {
      if (this.isPatient() && !link.wanted()) { link.drop("not wanted any more"); return false; }
      const old = this.link;
      this.#trial = null;
      this.link = link;
      old?.drop("another connection took over");
    }
    if (link === this.#opening) { this.link = link; this.#opening = null; }
    if (link.kind === "webtransport") this.timers.after(UDP_WELL_MS, () => { if (this.link === link) this.#udpAgainMs = UDP_AGAIN_MS; });
    link.isWelcome = true;
    link.said();
    return true;
  }

  /** Keep a message of a link that has no welcome yet: streams come in any order, and what stands in it changes what else means. */
  keep(link, bytes, isDatagram) {
    link.keptBytes = (link.keptBytes ?? 0) + bytes.length;
    if (link.keptBytes > EARLY_BYTES_MAX) { link.kept = []; link.drop("too much came before its welcome"); return; }
    (link.kept ??= []).push([bytes, isDatagram]);
  }

  /** What was kept, in the order in which it came. */
  kept(link) {
    const kept = link.kept ?? [];
    link.kept = null;
    return kept;
  }

  // -- inside --

  /** Open a link and wait for its welcome. `place(link, token)` says who it is, and answers false where it is not wanted. */
  async #try(kind, signal, place) {
    const token = await this.token();
    const link = await this.connect(kind, signal, (from, bytes, isDatagram) => this.#received(from, bytes, isDatagram));
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
    for (const [bytes, isDatagram] of early) this.hear(link, bytes, isDatagram);
    if (token) link.stream(control("token", { token }));
    link.answersPings = this.#answering === this.address();
    link.askedAt = performance.now();
    link.stream(PING);
  }

  #received(link, bytes, isDatagram) {
    link.heardAt = performance.now();
    if (link === this.link || link === this.#opening || link === this.#trial) { this.hear(link, bytes, isDatagram); return; }
    if (!link.welcome && !link.over) (link.early ??= []).push([bytes, isDatagram]); // before it is known here
  }

  /** Open another link; once it has its welcome it takes over, without a break. `still()`: whether that is wanted. */
  #replace(kind, still) {
    if (this.#challenge || this.closed) return this.#challenge;
    this.#challenge = (async () => {
      try {
        return await this.#try(kind, this.#connecting.signal, link => still() && (this.#trial = Object.assign(link, { wanted: still })));
      } finally {
        this.#trial?.drop();
        this.#trial = this.#challenge = null;
      }
    })();
    this.#challenge.catch(() => {});
    return this.#challenge;
  }

  /** The link is silent. Whatever speaks first, it or another, stays. */
  #suspect(link) {
    if (this.#challenge || link.suspected) return;
    link.suspected = true;
    const since = performance.now(), wanted = () => link.heardAt < since;
    const other = this.transport === "auto" ? "websocket" : this.transport;
    this.#replace(other, wanted)?.catch(() => {
      if (this.link === link && wanted()) link.drop("nothing was heard any more");
      link.suspected = false;
    });
  }

  /** Back to UDP from TCP, once it works: asked ever more rarely. */
  #lookForUdp() {
    if (this.transport !== "auto" || !hasUdp(this.address())) return;
    this.timers.after(Math.max(this.#udpAgainMs * (1 + Math.random() / 4), attempts.waitMs), async () => {
      if (this.closed || !this.link) return;
      if (this.link.kind === "websocket") {
        this.#udpAgainMs = Math.min(2 * this.#udpAgainMs, UDP_AGAIN_MAX_MS);
        try { await this.#replace("webtransport", () => this.link?.kind === "websocket"); } catch { /* not yet */ }
      }
      this.#lookForUdp();
    });
  }
}
