// The other half of background.js: a Subscriber in a worker. One message to the page each `everyMs`, with what changed.

import { Subscriber } from "./subscriber.js";

let sub = null, changed = new Map(), timer = 0, answers = new Map(), asks = 0, isReset = false;

/** A function of the page: a token, or a certificate's hash. */
const ask = what => (...values) => new Promise((resolve, reject) => {
  answers.set(++asks, { resolve, reject });
  postMessage({ ask: what, number: asks, values });
});

function flush() {
  timer = 0;
  const rows = [...changed], buffers = rows.flatMap(([, data]) => (data ? [data.buffer] : []));
  changed = new Map();
  const { epoch, tick } = sub.state;
  postMessage({ rows, epoch, tick, counts: { ...sub.counts }, reset: isReset }, buffers);
  isReset = false;
}

function start({ url, world, options, asked, everyMs }) {
  for (const what of asked) options[what] = ask(what);
  sub = new Subscriber(url, world, options);
  let state = sub.state;
  sub.onframe = (frame, keys) => {
    if (sub.state !== state) { state = sub.state; isReset = true; changed.clear(); }
    for (const key of keys) changed.set(key, sub.state.get(key)?.slice() ?? null);
    if (!timer) timer = setTimeout(flush, everyMs);
  };
  for (const type of ["status", "close", "moved", "bye", "control"]) sub.on(type, value => postMessage({ event: type, values: [value] }));
  sub.on("open", (welcome, kind) => postMessage({ event: "open", values: [welcome, kind] }));
  sub.on("refused", (code, detail, { world: where, url: there }) => postMessage({ event: "refused", values: [code, detail, { world: where, url: there }] }));
  sub.open().catch(() => {});
}

onmessage = ({ data }) => {
  if (data.start) start(data.start);
  else if (data.focus) sub.focus(...data.focus);
  else if (data.control) sub.control(...data.control);
  else if (data.close) { sub.close(); clearTimeout(timer); close(); }
  else if (data.answer !== undefined) {
    const { resolve, reject } = answers.get(data.answer);
    answers.delete(data.answer);
    if (data.failed) reject(new Error(data.failed)); else resolve(data.value);
  }
};
