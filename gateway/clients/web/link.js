// One connection to a gateway, by WebTransport or by WebSocket: both look alike from above.

import { prefixed, readMessages } from "./wire.js";

const FORGIVEN_MS = 5 * 60_000, THROTTLE_MAX_MS = 60_000, HANDSHAKE_MS = 10_000, DRAIN_MS = 250;
const WRITES_MAX = 64, STREAMS_MAX = 4, BUFFERED_MAX = 1 << 20;
/** Milliseconds from the n-th failed attempt of the last minutes to the next one. */
const AGAIN_MS = [0, 500, 1000, 2000, 4000, 5000, 6000, 8000, 15_000, 30_000];
const AGAIN_MAX_MS = 45_000;

/** Chromium holds a page's WebTransport attempts back by 10 ms * 2^(n - 1), half of it more or less and at most a minute,
 *  where n attempts have failed, or were given up, in the last five minutes (its web_transport_throttle_context.cc). So
 *  attempts are spent sparingly: after an outage of 15 s the next one waits for some 0.6 s there, not for a minute. */
class Attempts {
  constructor() { this.failed = []; }

  get count() {
    const now = Date.now();
    while (this.failed.length && now - this.failed[0] > FORGIVEN_MS) this.failed.shift();
    return this.failed.length;
  }

  fail() { this.failed.push(Date.now()); while (this.failed.length > 64) this.failed.shift(); }

  /** How long the browser may hold the next attempt back. */
  get heldMs() { return this.count ? 1.5 * Math.min(10 * 2 ** (this.count - 1), THROTTLE_MAX_MS) : 0; }

  /** How long to wait for the next attempt. */
  get waitMs() {
    const n = this.count;
    return n ? Math.max(0, this.failed[n - 1] + (AGAIN_MS[n] ?? AGAIN_MAX_MS) - Date.now()) : 0;
  }
}

/** Those of this page. */
export const attempts = new Attempts();

/** What is sent by, and what is heard from. `ended` resolves with {reason, code} once, and never rejects. */
export class Link {
  constructor(kind, max) {
    this.kind = kind;
    this.max = max;
    this.over = false;
    this.heardAt = performance.now();
    this.answersPings = false;
    this.askedAt = 0; // when it was asked by a ping that has no answer yet
    this.ended = new Promise(resolve => { this.finish = end => { this.over = true; resolve(end); }; });
  }

  /** Let go of it at once: nobody waits for the other side. */
  drop(reason = "") { this.finish({ reason, code: 0 }); this.close(); }
}

/** Resolves with a Link once the session is there. `take(link, bytes, isDatagram)` gets each message. */
export async function openWebTransport(url, hash, take, signal) {
  const options = hash ? { serverCertificateHashes: [{ algorithm: "sha-256", value: fromHex(hash) }] } : {};
  const session = new WebTransport(url, options);
  const link = new Link("webtransport", 1100);
  link.close = () => { try { session.close(); } catch { /* it is over already */ } };
  session.closed.catch(() => {});
  const patience = HANDSHAKE_MS + attempts.heldMs;
  let timer = 0;
  const late = new Promise((_, no) => {
    timer = setTimeout(() => no(new Error("no answer over UDP")), patience);
    signal?.addEventListener("abort", () => no(new Error("given up")), { once: true });
  });
  try { await Promise.race([session.ready, late]); }
  catch (error) { attempts.fail(); link.close(); throw error; }
  finally { clearTimeout(timer); }
  link.max = session.datagrams.maxDatagramSize || 1100;
  const datagrams = session.datagrams.writable.getWriter();
  let writes = 0, streams = 0;
  link.datagram = bytes => {
    if (writes >= WRITES_MAX) return false;
    writes++;
    datagrams.write(bytes).catch(() => {}).finally(() => { writes--; });
    return true;
  };
  link.stream = async (...messages) => {
    streams++;
    try {
      const writer = (await session.createUnidirectionalStream()).getWriter();
      await writer.write(prefixed(messages));
      await writer.close();
    } catch { /* the link's end is told by `ended` */ } finally { streams--; }
  };
  Object.defineProperty(link, "busy", { get: () => streams >= STREAMS_MAX });
  const reading = new Set();
  const follow = promise => { reading.add(promise); promise.catch(() => {}).finally(() => reading.delete(promise)); };
  follow((async () => {
    const incoming = session.incomingUnidirectionalStreams.getReader();
    for (;;) {
      const { value, done } = await incoming.read();
      if (done) return;
      follow(readMessages(value, bytes => take(link, bytes, false)));
    }
  })());
  follow((async () => {
    const reader = session.datagrams.readable.getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      take(link, value, true);
    }
  })());
  const done = async end => { // what came before the end counts: it says why
    await Promise.race([Promise.allSettled([...reading]), new Promise(late => setTimeout(late, DRAIN_MS))]);
    link.finish(end);
  };
  session.closed.then(end => done({ reason: end?.reason ?? "", code: end?.closeCode ?? 0 }), () => done({ reason: "the connection was lost", code: 0 }));
  return link;
}

/** The same by WebSocket. */
export function openWebSocket(url, take, signal) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url.replace(/^http/, "ws")), link = new Link("websocket", 65535);
    socket.binaryType = "arraybuffer";
    link.close = () => { socket.onmessage = null; socket.close(); };
    link.stream = (...messages) => { if (socket.readyState === WebSocket.OPEN) for (const bytes of messages) socket.send(bytes); };
    link.datagram = bytes => { link.stream(bytes); return true; };
    Object.defineProperty(link, "busy", { get: () => socket.bufferedAmount > BUFFERED_MAX });
    const given = () => { link.close(); reject(new Error("given up")); };
    signal?.addEventListener("abort", given, { once: true });
    socket.onopen = () => { signal?.removeEventListener("abort", given); resolve(link); };
    socket.onmessage = event => take(link, new Uint8Array(event.data), false);
    socket.onclose = event => {
      link.finish({ reason: event.reason, code: event.code >= 4000 ? event.code - 4000 : 0 });
      reject(new Error("no gateway answers"));
    };
  });
}

export function fromHex(hex) {
  const digits = String(hex).trim();
  if (!/^[0-9a-fA-F]{64}$/.test(digits)) throw new Error("certificateHash is 64 hex digits, those of /certificate.sha256");
  return Uint8Array.from(digits.match(/../g), pair => parseInt(pair, 16));
}
