// mvgateway in the browser: one file, no build step, no dependencies.
//
//   import { Subscriber, Publisher } from "./mvgateway.js";
//   const sub = new Subscriber("https://127.0.0.1:4433", "arena");
//   sub.onframe = frame => draw(sub.state);      // Map: key -> Uint8Array
//   await sub.open();
//
// WebTransport first, WebSocket where there is none or UDP gets no answer. The protocol is
// docs/FRAMES.md's, version 1. All integers are little-endian.

const FRAME = 1, PARITY = 2, CONTROL = 16, HEADER = 24;
const KEYFRAME = 1, ZSTD = 2, REPAIR = 4, TICKS = 8, REMOVED = 0xffffffff;
const UDP_PATIENCE_MS = 1000, BACKOFF_MIN_MS = 50, BACKOFF_MAX_MS = 2000;
const MESSAGE_MAX = 16 * 1024 * 1024, PARTS_MAX = 32, FRAMES_MAX = 8;
const TOKEN_MARGIN_S = 300, TOKEN_AGAIN_MS = 1000;
const REFUSED = /^(unauthorized|grant_refused|forbidden)$/; // what another token may mend

const text = new TextDecoder(), bytesOf = new TextEncoder();

/** Read one message: {control} or {epoch, tick, sentAt, keyframe, repair, part, parts, records}.
 *  `records` is a list of [key, Uint8Array or null for removed, tick]. Throws on malformed bytes. */
export function decode(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const type = view.getUint8(0);
  if (type === CONTROL) return { control: JSON.parse(text.decode(bytes.subarray(1))) };
  if (type !== FRAME || bytes.length < HEADER) throw new Error(`not a message: type ${type}`);
  const flags = view.getUint8(1), stride = view.getUint16(6, true);
  if (flags & ZSTD) throw new Error("compressed frame, which was not asked for");
  const frame = {
    keyframe: !!(flags & KEYFRAME), repair: !!(flags & REPAIR),
    part: view.getUint16(2, true), parts: view.getUint16(4, true),
    epoch: view.getUint32(8, true), tick: view.getUint32(12, true),
    sentAt: Number(view.getBigUint64(16, true)), records: [],
  };
  for (let at = HEADER; at < bytes.length;) {
    let tick = frame.tick, data = null;
    if (flags & TICKS) { tick = view.getUint32(at, true); at += 4; }
    const key = view.getUint32(at, true);
    let length = stride;
    if (!stride) { length = view.getUint32(at + 4, true); at += 8; }
    if (length !== REMOVED) {
      if (at + length > bytes.length) throw new Error(`record ${key} ends beyond its message`);
      data = bytes.subarray(at, at + length);
      at += length;
    }
    frame.records.push([key, data, tick]);
  }
  return frame;
}

/** One frame as a message. `records`: Map or object key -> Uint8Array, null removes. */
export function encode(epoch, tick, records, { keyframe = false } = {}) {
  const rows = records instanceof Map ? [...records] : Object.entries(records);
  const size = rows.reduce((sum, [, data]) => sum + 8 + (data ? data.length : 0), HEADER);
  const bytes = new Uint8Array(size), view = new DataView(bytes.buffer);
  view.setUint8(0, FRAME);
  view.setUint8(1, keyframe ? KEYFRAME : 0);
  view.setUint16(4, 1, true);
  view.setUint32(8, epoch, true);
  view.setUint32(12, tick, true);
  view.setBigUint64(16, BigInt(Math.round(Date.now() * 1000)), true);
  let at = HEADER;
  for (const [key, data] of rows) {
    view.setUint32(at, Number(key), true);
    view.setUint32(at + 4, data ? data.length : REMOVED, true);
    at += 8;
    if (data) { bytes.set(data, at); at += data.length; }
  }
  return bytes;
}

/** Makes a lost datagram of a frame again from the others and the frame's parity. Give it every datagram. */
export class Rebuilder {
  constructor() { this.frames = new Map(); }

  /** Answers the message that was lost, once it can be known, else null. */
  take(bytes) {
    if (bytes.length < HEADER || (bytes[0] !== FRAME && bytes[0] !== PARITY)) return null;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const part = view.getUint16(2, true), parts = view.getUint16(4, true);
    if (parts < 2 || parts > PARTS_MAX) return null;
    const name = [parts, view.getBigUint64(8, true), view.getBigUint64(16, true)].join(); // of epoch, tick, sent_at
    if (!this.frames.has(name)) {
      this.frames.set(name, { parity: null, messages: new Map() });
      if (this.frames.size > FRAMES_MAX) this.frames.delete(this.frames.keys().next().value);
    }
    const held = this.frames.get(name);
    if (!held) return null; // it is whole
    if (bytes[0] === PARITY) held.parity = bytes;
    else if (part < parts) held.messages.set(part, bytes);
    const missing = parts - held.messages.size;
    if (missing > 1 || (missing === 1 && !held.parity)) return null;
    this.frames.set(name, null);
    return missing ? rebuilt(held, parts) : null;
  }
}

function rebuilt({ parity, messages }, parts) {
  const out = new Uint8Array(Math.max(parity.length, ...[...messages.values()].map(m => m.length)));
  out.set(parity);
  const view = new DataView(out.buffer);
  let length = view.getUint16(2, true), part = 0;
  while (messages.has(part)) part++;
  for (const message of messages.values()) {
    length ^= message.length;
    for (const at of [1, 6, 7]) out[at] ^= message[at]; // flags and stride; what stands between is the same in all
    for (let at = HEADER; at < message.length; at++) out[at] ^= message[at];
  }
  if (length < HEADER || length > out.length) return null;
  out[0] = FRAME;
  view.setUint16(2, part, true);
  return out.subarray(0, length);
}

function control(type, fields = {}) {
  const body = bytesOf.encode(JSON.stringify({ type, ...fields }));
  const bytes = new Uint8Array(body.length + 1);
  bytes[0] = CONTROL;
  bytes.set(body, 1);
  return bytes;
}

/** Calls `take` with each length-prefixed message of a ReadableStream. */
async function readMessages(stream, take) {
  const reader = stream.getReader();
  let held = new Uint8Array(0);
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const joined = new Uint8Array(held.length + value.length);
    joined.set(held); joined.set(value, held.length);
    let at = 0;
    const view = new DataView(joined.buffer);
    while (joined.length - at >= 4) {
      const length = view.getUint32(at, true);
      if (length > MESSAGE_MAX) throw new Error(`a message of ${length} bytes`);
      if (joined.length - at - 4 < length) break;
      take(joined.slice(at + 4, at + 4 + length));
      at += 4 + length;
    }
    held = joined.slice(at);
  }
}

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

/** A token, and when to get another: a string, or a function that answers a fresh one (or a promise of it). */
class Token {
  constructor(source) { this.source = source; this.held = null; this.due = 0; }
  get renews() { return typeof this.source === "function"; }

  /** The one to use now. */
  async current() {
    if (!this.renews) return this.source;
    return this.held && Date.now() < this.due ? this.held : this.fresh();
  }

  async fresh() {
    let made;
    try { made = await this.source(); } catch (error) { throw new Error(`no token: the function token failed (${error?.name})`); }
    if (typeof made !== "string" || !made) throw new Error("no token: the function token gave none");
    this.held = made.trim();
    const left = (expiry(this.held) ?? Infinity) * 1000 - Date.now();
    this.due = Date.now() + left - Math.min(left / 4, TOKEN_MARGIN_S * 1000);
    return this.held;
  }
}

/** When a token ends by its own word, in Unix seconds (RFC 7519, `exp`); null where it does not say. */
function expiry(token) {
  try { return Number(JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))).exp) || null; } catch { return null; }
}

/** A session that reconnects by itself. `certificateHash`: hex of /certificate.sha256 (a string, or a
 *  function that answers one), needed for a self-signed certificate. `token`: by which the gateway lets us in, a
 *  string, or a function (async or not) that answers a fresh one: it is asked before the old one ends, and the session
 *  goes on. Events: onopen(welcome), oncontrol(control), onclose(reason). `fatal` says why no session follows. */
class Session {
  #token = null;
  #renewal = null;
  #retried = false;

  constructor(url, world, { certificateHash = null, transport = "auto", query = {}, token = null } = {}) {
    Object.assign(this, { url: url.replace(/\/$/, ""), world, certificateHash, transport, query });
    if (token !== null) this.#token = new Token(token);
    this.link = null; this.closed = false; this.epoch = 0; this.wait = BACKOFF_MIN_MS;
    this.onopen = this.oncontrol = this.onclose = () => {};
  }

  /** Connect, and stay connected until close(). Resolves with the first welcome. */
  open() {
    return new Promise((resolve, reject) => { this.first = { resolve, reject }; this.#run(); });
  }

  close() { this.closed = true; clearTimeout(this.#renewal); (this.link ?? this.opening)?.close(); }

  async #run() {
    while (!this.closed) {
      let reason = "";
      try { reason = await this.#once(); } catch (error) { reason = String(error.message ?? error); }
      this.link = this.opening = null;
      clearTimeout(this.#renewal);
      this.onclose(reason);
      if (this.fatal) { this.first?.reject(new Error(this.fatal)); return; }
      await new Promise(done => setTimeout(done, this.wait * (0.5 + Math.random() / 2)));
      this.wait = Math.min(this.wait * 2, BACKOFF_MAX_MS);
    }
  }

  async #once() {
    this.credentials = await this.#token?.current();
    const path = `/v1/worlds/${encodeURIComponent(this.world)}/live?${new URLSearchParams(this.params())}`;
    if (this.transport !== "websocket" && typeof WebTransport !== "undefined") {
      try { return await this.#webTransport(path); }
      catch (error) { if (this.transport === "webtransport" || this.link || this.opening) throw error; }
    }
    return this.#webSocket(path);
  }

  #datagram(bytes) {
    if (bytes[0] !== PARITY) this.#take(bytes);
    const lost = this.rebuilder?.take(bytes);
    if (lost) { this.counts.rebuilt++; this.#take(lost); }
  }

  async #webTransport(path) {
    const hash = typeof this.certificateHash === "function" ? await this.certificateHash() : this.certificateHash;
    const options = hash ? { serverCertificateHashes: [{ algorithm: "sha-256", value: fromHex(hash) }] } : {};
    const session = new WebTransport(this.url + path, options);
    session.closed.catch(() => {});
    const late = new Promise((_, no) => setTimeout(() => no(new Error("no answer over UDP")), UDP_PATIENCE_MS));
    try { await Promise.race([session.ready, late]); } catch (error) { try { session.close(); } catch {} throw error; }
    const datagrams = session.datagrams.writable.getWriter();
    this.#opened({
      kind: "webtransport", max: session.datagrams.maxDatagramSize || 1100,
      datagram: bytes => datagrams.write(bytes).catch(() => {}),
      stream: async bytes => { const w = (await session.createUnidirectionalStream()).getWriter(); await w.write(prefixed(bytes)); await w.close(); },
      close: () => { try { session.close(); } catch {} },
    });
    const incoming = session.incomingUnidirectionalStreams.getReader();
    (async () => { for (;;) { const { value, done } = await incoming.read(); if (done) return; readMessages(value, b => this.#take(b)).catch(() => {}); } })().catch(() => {});
    const reader = session.datagrams.readable.getReader();
    (async () => { for (;;) { const { value, done } = await reader.read(); if (done) return; this.#datagram(value); } })().catch(() => {});
    const end = await session.closed;
    return end?.reason ?? "";
  }

  #webSocket(path) {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(this.url.replace(/^http/, "ws") + path);
      socket.binaryType = "arraybuffer";
      socket.onopen = () => {
        const send = bytes => socket.send(bytes);
        this.#opened({ kind: "websocket", max: 65535, datagram: send, stream: send, close: () => socket.close() });
      };
      socket.onmessage = event => this.#take(new Uint8Array(event.data));
      socket.onclose = event => this.link || this.opening ? resolve(event.reason) : reject(new Error("no gateway answers"));
    });
  }

  /** A browser can set no header here: the token is the first message, and all else waits for the answer to it. */
  #opened(link) {
    const token = this.credentials;
    this.credentials = null;
    if (!token) { this.link = link; return; }
    this.opening = link;
    link.stream(control("token", { token }));
  }

  /** A fresh token before the old one ends, on the session that is open. */
  #renewIn(ms) {
    clearTimeout(this.#renewal);
    if (!this.#token?.renews || !Number.isFinite(ms)) return;
    this.#renewal = setTimeout(async () => {
      const link = this.link ?? this.opening;
      let token;
      try { token = await this.#token.fresh(); } catch { this.#renewIn(TOKEN_AGAIN_MS); return; }
      if (link && link === (this.link ?? this.opening)) link.stream(control("token", { token }));
      this.#renewIn(Math.max(this.#token.due - Date.now(), TOKEN_AGAIN_MS));
    }, Math.min(Math.max(ms, 0), 2 ** 31 - 1));
  }

  /** Whether a refusal ends it: not where a fresh token may be let in, once until it is. */
  #refused(why) {
    if (!this.#token?.renews || this.#retried) { this.fatal = why; return; }
    this.#retried = true;
    this.#token.due = 0;
  }

  #take(bytes) {
    let message;
    try { message = decode(bytes); } catch { this.malformed = (this.malformed ?? 0) + 1; return; }
    if (!message.control) { this.take(message, bytes.length); return; }
    const said = message.control;
    if (said.type === "welcome") {
      this.wait = BACKOFF_MIN_MS;
      this.#retried = false;
      if (this.opening) { this.link = this.opening; this.opening = null; }
      if (this.#token) this.#renewIn(this.#token.due - Date.now());
      if (said.resume || said.epoch !== this.epoch) this.resume = said.resume ?? null; // the right to come back to this epoch
      this.epoch = said.epoch;
      this.first?.resolve(said); this.first = null;
      this.welcomed?.();
      this.onopen(said);
    } else if (said.type === "resync") this.resetDue = said.reason === "seek";
    else if (said.type === "error" && REFUSED.test(said.code)) this.#refused(said.message);
    else if (said.type === "bye" && /^(expired|revoked)$/.test(said.reason)) this.#refused(`the grant of this session is ${said.reason}`);
    else if (said.type === "error" && !/^(store|overloaded|shutting)/.test(said.code)) this.fatal = said.message;
    else if (said.type === "bye" && said.reconnect_after_ms) this.wait = said.reconnect_after_ms;
    this.oncontrol(said);
  }

  /** Send a control message ("focus", or "play", "pause", "seek" in a replay). */
  control(type, fields) { this.link?.stream(control(type, fields)); }
}

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
  params() { const { redundancy, ...query } = this.query; return { role: "subscribe", ...query }; }
  /** Not in the query: a gateway that has no redundancy ignores the message, but would refuse the keys. */
  welcomed() {
    if (this.link.kind === "webtransport") this.control("redundancy", { mode: this.query.redundancy ?? "auto", parity: true });
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
  }
}

/** Publishes a world: send(records) with key -> Uint8Array (null removes); never waits. */
export class Publisher extends Session {
  constructor(url, world, options = {}) { super(url, world, options); this.tick = 0; this.live = new Map(); this.durable = null; }
  params() { return { role: "publish", ...(this.epoch ? { epoch: this.epoch } : {}), ...(this.epoch && this.resume ? { resume: this.resume } : {}), ...this.query }; }
  take() {}
  send(records) {
    this.tick++;
    const rows = records instanceof Map ? records : new Map(Object.entries(records).map(([k, v]) => [Number(k), v]));
    for (const [key, data] of rows) data ? this.live.set(key, data) : this.live.delete(key);
    if (!this.link) { this.due = true; return this.tick; }
    if (this.due) { this.due = false; this.link.stream(encode(this.epoch, this.tick, this.live, { keyframe: true })); return this.tick; }
    this.#parts(rows);
    return this.tick;
  }
  #parts(rows) {
    let part = new Map(), size = HEADER;
    const out = () => { if (part.size) this.#one(encode(this.epoch, this.tick, part)); part = new Map(); size = HEADER; };
    for (const [key, data] of rows) {
      const more = 8 + (data ? data.length : 0);
      if (size + more > this.link.max) out();
      part.set(key, data); size += more;
    }
    out();
  }
  #one(bytes) { bytes.length > this.link.max ? this.link.stream(bytes) : this.link.datagram(bytes); }
  get onclose() { return reason => { this.due = true; this.closing?.(reason); }; }
  set onclose(fn) { this.closing = fn; }
}

function prefixed(bytes) {
  const out = new Uint8Array(bytes.length + 4);
  new DataView(out.buffer).setUint32(0, bytes.length, true);
  out.set(bytes, 4);
  return out;
}

function fromHex(hex) {
  return new Uint8Array(hex.trim().match(/../g).map(pair => parseInt(pair, 16)));
}
