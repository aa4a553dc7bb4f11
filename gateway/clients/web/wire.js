// Messages of the frame protocol (docs/FRAMES.md, version 1) to objects and back. All integers are little-endian.

const FRAME = 1, PARITY = 2, CONTROL = 16, ENTITY = 32, HEADER = 24;
const KEYFRAME = 1, ZSTD = 2, REPAIR = 4, TICKS = 8, REMOVED = 0xffffffff;
const MESSAGE_MAX = 16 * 1024 * 1024, PARTS_MAX = 32, FRAMES_MAX = 8;

const text = new TextDecoder(), bytesOf = new TextEncoder();

/** Whether a datagram is a parity message, which says nothing by itself. */
export const isParity = bytes => bytes[0] === PARITY;
export const isControl = bytes => bytes[0] === CONTROL;

/** Read one message: {control} or {epoch, tick, sentAt, keyframe, repair, part, parts, records}.
 *  `records` is a list of [key, Uint8Array or null for removed, tick]. Throws on malformed bytes. */
export function decode(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const type = view.getUint8(0);
  if (type === CONTROL) {
    const said = JSON.parse(text.decode(bytes.subarray(1)));
    if (typeof said?.type !== "string") throw new Error("a control message is a JSON object with a type");
    return { control: said };
  }
  if (type !== FRAME || bytes.length < HEADER) throw new Error(`not a message: type ${type}`);
  const flags = view.getUint8(1), stride = view.getUint16(6, true);
  if (flags & ZSTD) throw new Error("compressed frame, which was not asked for");
  const frame = {
    keyframe: !!(flags & KEYFRAME), repair: !!(flags & REPAIR), ticks: !!(flags & TICKS),
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

/** A frame as messages of at most `max` bytes, whole records each (a record that is larger has one of its own). `rows`:
 *  a list of [key, Uint8Array or null for removed, tick]; with `ticks` each row's tick goes along. */
export function encodeFrame(epoch, tick, rows, { max = Infinity, keyframe = false, repair = false, ticks = false, sentAt = Date.now() * 1000 } = {}) {
  const room = max - HEADER, groups = [[]], sizes = [0];
  for (const row of rows) {
    const size = 8 + (ticks ? 4 : 0) + (row[1] ? row[1].length : 0), last = groups.length - 1;
    if (groups[last].length && sizes[last] + size > room) { groups.push([row]); sizes.push(size); continue; }
    groups[last].push(row);
    sizes[last] += size;
  }
  const clock = BigInt(Math.round(sentAt));
  const flags = (keyframe ? KEYFRAME : 0) | (repair ? REPAIR : 0) | (ticks ? TICKS : 0);
  return groups.map((group, part) => {
    const bytes = new Uint8Array(HEADER + sizes[part]), view = new DataView(bytes.buffer);
    view.setUint8(0, FRAME);
    view.setUint8(1, flags);
    view.setUint16(2, part, true);
    view.setUint16(4, groups.length, true);
    view.setUint32(8, epoch, true);
    view.setUint32(12, tick, true);
    view.setBigUint64(16, clock, true);
    let at = HEADER;
    for (const [key, data, own] of group) {
      if (ticks) { view.setUint32(at, own, true); at += 4; }
      view.setUint32(at, Number(key), true);
      view.setUint32(at + 4, data ? data.length : REMOVED, true);
      at += 8;
      if (data) { bytes.set(data, at); at += data.length; }
    }
    return bytes;
  });
}

/** One frame as one message. `records`: Map or object key -> Uint8Array, null removes. */
export function encode(epoch, tick, records, { keyframe = false } = {}) {
  return encodeFrame(epoch, tick, records instanceof Map ? [...records] : Object.entries(records), { keyframe })[0];
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

/** A control message. */
export function control(type, fields = {}) {
  const body = bytesOf.encode(JSON.stringify({ type, ...fields }));
  const bytes = new Uint8Array(body.length + 1);
  bytes[0] = CONTROL;
  bytes.set(body, 1);
  return bytes;
}

/** Calls `take` with each length-prefixed message of a ReadableStream. */
export async function readMessages(stream, take) {
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

/** An entity message (docs/ENTITIES.md): {head, state}. Throws on malformed bytes. */
export function decodeEntity(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 8 || bytes[0] !== ENTITY) throw new Error("not an entity message");
  const end = 8 + view.getUint32(4, true);
  if (end > bytes.length) throw new Error("an entity's head ends beyond its message");
  return { head: JSON.parse(text.decode(bytes.subarray(8, end))), state: bytes.subarray(end) };
}

export function encodeEntity(head, state = new Uint8Array(0)) {
  const told = bytesOf.encode(JSON.stringify(head)), bytes = new Uint8Array(8 + told.length + state.length);
  bytes[0] = ENTITY;
  new DataView(bytes.buffer).setUint32(4, told.length, true);
  bytes.set(told, 8);
  bytes.set(state, 8 + told.length);
  return bytes;
}

/** Messages as they stand on a stream: each after its length. */
export function prefixed(messages) {
  const out = new Uint8Array(messages.reduce((sum, message) => sum + 4 + message.length, 0)), view = new DataView(out.buffer);
  let at = 0;
  for (const message of messages) {
    view.setUint32(at, message.length, true);
    out.set(message, at + 4);
    at += 4 + message.length;
  }
  return out;
}
