// Reads and makes what the shared vectors say: `node vectors.mjs KIT_FOLDER VECTORS_FOLDER` prints {good, bad}.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [kit, folder] = process.argv.slice(2);
const load = name => import(pathToFileURL(`${kit}/${name}.js`));
const { decode, decodeEntity, encodeEntity, encodeFrame } = await load("wire");
const { WorldState } = await load("state");
const { Token, expiry } = await load("token");
const cases = name => JSON.parse(readFileSync(`${folder}/${name}.json`, "utf8"));
const bytes = hex => Uint8Array.from(Buffer.from(hex, "hex"));
const hex = data => (data === null ? null : Buffer.from(data).toString("hex"));
const order = value => (value && typeof value === "object" && !Array.isArray(value) ? Object.fromEntries(Object.keys(value).sort().map(key => [key, order(value[key])])) : Array.isArray(value) ? value.map(order) : value);
const same = (one, other) => JSON.stringify(order(one)) === JSON.stringify(order(other));
let good = 0;
const bad = [];

function check(file, name, found, wanted) {
  if (same(found, wanted)) good++;
  else bad.push([file, name, found, wanted]);
}

function read(message) {
  try { return decode(bytes(message)); } catch { return null; }
}

for (const { name, message, frame } of cases("frames")) {
  const found = read(message);
  const told = found && !found.control && frame ? {
    epoch: found.epoch, tick: found.tick, part: found.part, parts: found.parts, keyframe: found.keyframe, repair: found.repair, ticks: found.ticks,
    records: found.records.map(([key, data, tick]) => [key, hex(data), tick]),
  } : found;
  const { stride, sent_at, ...wanted } = frame ?? {};
  check("frames", name, told, frame ? wanted : null);
}
for (const { name, epoch, tick, records, keyframe, sent_at, message } of cases("made")) {
  const rows = records.map(([key, data]) => [key, data === null ? null : bytes(data)]);
  check("made", name, encodeFrame(epoch, tick, rows, { keyframe, sentAt: sent_at }).map(hex), [message]);
}
for (const { name, steps, records } of cases("states")) {
  const state = new WorldState(), found = [];
  for (const [message] of steps) {
    const frame = read(message);
    const changed = frame ? [...new Set(state.apply(frame))].sort((a, b) => a - b) : [];
    found.push([message, changed, state.epoch, state.tick]);
  }
  check("states", name, [found, Object.fromEntries([...state.keys()].map(key => [key, hex(state.get(key))]))], [steps, records]);
}
for (const { name, message, fields } of cases("controls")) check("controls", name, read(message)?.control ?? null, fields);
for (const one of cases("tokens")) {
  if ("token" in one) check("tokens", one.token, expiry(one.token), one.expires);
  else check("tokens", one.left_s, Token.marginS(one.left_s), one.margin_s);
}
for (const { head, state, message } of cases("entities")) {
  const found = decodeEntity(bytes(message)), again = decodeEntity(encodeEntity(head, bytes(state)));
  check("entities", head.id, [found.head, hex(found.state), again.head, hex(again.state)], [head, state, head, state]);
}
console.log(JSON.stringify({ good, bad: bad.slice(0, 5) }));
