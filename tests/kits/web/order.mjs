// What a session makes of streams that come in another order than they were sent: `node order.mjs KIT_FOLDER`.
// WebTransport keeps the order within a stream only; here the test says which of them is read first.

import { pathToFileURL } from "node:url";

const { Replay, Subscriber } = await import(pathToFileURL(`${process.argv[2]}/mvgateway.js`));
const { control, decode, encode, prefixed } = await import(pathToFileURL(`${process.argv[2]}/wire.js`));

/** The newest connection that the kit made. */
let there = null;

globalThis.WebTransport = class {
  constructor() {
    there = this;
    this.ready = Promise.resolve();
    this.closed = new Promise(() => {});
    this.incomingUnidirectionalStreams = new ReadableStream({ start: streams => { this.streams = streams; } });
    this.datagrams = { maxDatagramSize: 1100, readable: new ReadableStream(), writable: new WritableStream() };
    this.heard = []; // what the kit told it
    this.first = new ReadableStream({ start: messages => { this.messages = messages; } });
  }

  async createUnidirectionalStream() { return new WritableStream({ write: bytes => { this.heard.push(decode(bytes.slice(4)).control); } }); }
  close() {}

  /** On the first stream, whose messages keep their order. */
  say(...messages) {
    if (this.first) this.streams.enqueue(this.first);
    this.first = null;
    this.messages.enqueue(prefixed(messages));
  }

  /** On a stream of its own. */
  stream(...messages) {
    this.streams.enqueue(new ReadableStream({ start: one => { one.enqueue(prefixed(messages)); one.close(); } }));
  }
};

/** Until all that can happen by itself has. */
const quiet = async () => { for (let n = 0; n < 50; n++) await new Promise(done => setImmediate(done)); };

const welcome = control("welcome", { epoch: 1, tick: 30 });
const position = (tick, speed = 0) => control("position", { epoch: 1, tick, speed, ended: false });
const shown = tick => [control("resync", { reason: "seek" }), encode(1, tick, { 1: Uint8Array.of(tick) }, { keyframe: true }), position(tick)];
const options = { transport: "webtransport", watchdogMs: 0 };

/** What a promise has come to by now. */
function become(promise) {
  const now = { is: "waits" };
  promise.then(value => { now.is = value; }, error => { now.is = error.code; });
  return now;
}

async function film({ before = false, ...more } = {}) {
  const viewer = new Replay("https://gateway.test", "film", { ...options, paused: true, ...more });
  viewer.open().catch(() => {});
  await quiet();
  const early = become(viewer.seek({ tick: 5 }));
  if (before) { there.stream(...shown(1)); await quiet(); there.say(welcome); } else { there.say(welcome); await quiet(); there.stream(...shown(1)); }
  await quiet();
  return { viewer, early, begun: viewer.state.get(1)?.[0] };
}

async function overtakenWelcome() {
  const { viewer, early, begun } = await film({ before: true });
  const sought = become(viewer.seek({ tick: 12 }));
  there.stream(...shown(12));
  await quiet();
  const stepped = become(viewer.step(-2));
  there.stream(...shown(10));
  await quiet();
  return { early: early.is, begun, sought: sought.is.tick ?? sought.is, stepped: stepped.is.tick ?? stepped.is, shows: viewer.state.get(1)[0] };
}

async function overtakenPosition() {
  const { viewer } = await film();
  const sought = become(viewer.seek({ tick: 12 })), live = become(viewer.live());
  there.say(welcome);
  await quiet();
  there.stream(position(12));
  await quiet();
  return { live: live.is, sought: sought.is.tick ?? sought.is, isLive: viewer.isLive };
}

async function secondWelcome() {
  const { viewer } = await film();
  there.say(welcome); // as where a world has moved
  await quiet();
  const sought = become(viewer.seek({ tick: 12 }));
  there.stream(...shown(12));
  await quiet();
  return sought.is.tick ?? sought.is;
}

/** A silent connection is replaced, while a command of the old one waits and another is answered. */
async function takenOver() {
  const { viewer } = await film({ watchdogMs: 50 });
  there.say(control("pong"));
  const old = there;
  while (there === old) await new Promise(done => setTimeout(done, 5));
  await quiet();
  const playing = become(viewer.play()), waiting = become(viewer.step());
  old.stream(position(1, 1));
  await quiet();
  there.stream(...shown(1));
  there.say(welcome);
  await quiet();
  const said = there.heard.map(({ type }) => type).filter(type => type !== "ping" && type !== "redundancy");
  there.stream(position(1, 1)); // of the play that was said again
  await quiet();
  const stepped = become(viewer.step());
  there.stream(...shown(2));
  await quiet();
  viewer.close();
  return { playing: playing.is.tick ?? playing.is, waiting: waiting.is, said, stepped: stepped.is.tick ?? stepped.is };
}

async function reader(token) {
  const sub = new Subscriber("https://gateway.test", "arena", { ...options, token });
  const seen = [];
  sub.on("open", () => seen.push("open"));
  sub.on("frame", () => seen.push("frame"));
  sub.open().catch(() => {});
  await quiet();
  there.stream(encode(1, 7, { 1: Uint8Array.of(7) }, { keyframe: true }));
  await quiet();
  there.say(welcome, control("resync", { reason: "start" }));
  await quiet();
  return { shows: sub.state.get(1)?.[0] ?? null, seen };
}

async function flood() {
  const sub = new Subscriber("https://gateway.test", "arena", options);
  const ends = [];
  sub.on("close", reason => { ends.push(reason); sub.close(); });
  sub.open().catch(() => {});
  await quiet();
  for (let n = 0; n < 9 && !ends.length; n++) { there.stream(encode(1, n + 1, { 1: new Uint8Array(4 << 20) })); await quiet(); }
  return ends;
}

const found = {
  overtaken_welcome: await overtakenWelcome(),
  overtaken_position: await overtakenPosition(),
  second_welcome: await secondWelcome(),
  taken_over: await takenOver(),
  reader: await reader(null),
  reader_with_token: await reader("abc"),
  flood: await flood(),
};
console.log(JSON.stringify(found));
process.exit(0); // the sessions stay open
