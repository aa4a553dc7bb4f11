// A reader whose connection and decoding are a worker's: the page is told what changed, once in a while.

import { Emitter } from "./events.js";
import { GatewayRefused } from "./refusals.js";

const EVERY_MS = 16;

/** As a Subscriber: `open()`, `close()`, `on()`, `focus()`, `state` (a Map: key -> Uint8Array), `epoch`, `tick`, `counts`;
 *  the event `changed(keys)` comes each `everyMs` at most. Functions in the options are called in the page. */
export class BackgroundSubscriber extends Emitter {
  #worker;
  #first;

  constructor(url, world, { everyMs = EVERY_MS, signal = null, ...options } = {}) {
    super();
    Object.assign(this, { world, state: new Map(), epoch: 0, tick: 0, counts: {}, status: "idle", error: null });
    this.functions = Object.fromEntries(["token", "certificateHash"].filter(name => typeof options[name] === "function").map(name => [name, options[name]]));
    for (const name of Object.keys(this.functions)) delete options[name];
    this.begin = { url: new URL(url, location.href).href, world, options, asked: Object.keys(this.functions), everyMs };
    signal?.addEventListener("abort", () => this.close(), { once: true });
  }

  open() {
    return (this.started ??= new Promise((resolve, reject) => {
      this.#first = { resolve, reject };
      this.#worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
      this.#worker.onmessage = ({ data }) => this.#told(data);
      this.#worker.onerror = event => { this.#first?.reject(new Error(event.message || "the worker could not be started")); };
      this.#worker.postMessage({ start: this.begin });
    }));
  }

  close() {
    this.#worker?.postMessage({ close: true });
    this.status = "closed";
    this.#first?.reject(new DOMException("the session was closed", "AbortError"));
    this.#first = null;
  }

  focus(keys, weights) { this.#worker.postMessage({ focus: [[...keys], weights && [...weights]] }); }
  control(type, fields) { this.#worker.postMessage({ control: [type, fields] }); }

  #told(data) {
    if (data.rows) this.#changed(data);
    else if (data.ask) this.#asked(data);
    else this.#event(data.event, data.values);
  }

  #changed({ rows, epoch, tick, counts, reset }) {
    if (reset) this.state.clear();
    for (const [key, bytes] of rows) { if (bytes) this.state.set(key, bytes); else this.state.delete(key); }
    Object.assign(this, { epoch, tick, counts });
    this.emit("changed", rows.map(([key]) => key));
  }

  async #asked({ ask, number, values }) {
    try { this.#worker.postMessage({ answer: number, value: await this.functions[ask](...values) }); }
    catch (error) { this.#worker.postMessage({ answer: number, failed: String(error?.name ?? error) }); }
  }

  #event(type, values) {
    if (type === "status") [this.status] = values;
    if (type === "open") { this.#first?.resolve(values[0]); this.#first = null; }
    if (type === "refused") {
      this.error = new GatewayRefused(...values);
      this.#first?.reject(this.error);
      this.#first = null;
    }
    this.emit(type, ...values);
  }
}
