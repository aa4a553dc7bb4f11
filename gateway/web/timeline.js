// A recording's time line: how much there is, where it has gaps, epochs and marks, and where one stands.

import { clock, inkChanges, unitOf } from "./parts.js";

const LINE = 26; // pixels for marks, above the density
const TOLD_MS = 1000;

export class Timeline {
  line = null;          // what GET …/timeline told
  marks = [];
  gaps = [];
  here = null;          // microseconds since the Unix epoch
  onseek = () => {};

  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    new ResizeObserver(() => this.draw()).observe(canvas);
    inkChanges(() => this.draw());
    canvas.addEventListener("pointerdown", event => this.#scrub(event));
    canvas.addEventListener("keydown", event => this.#key(event));
  }

  get from() { return this.line?.from_us ?? 0; }
  get to() { return Math.max(this.line?.to_us ?? 1, this.from + 1); }

  /** `isAsked`: somebody went there; what plays is told once a second, which can be listened to. */
  move(us, isAsked = false) {
    this.here = us;
    this.draw();
    if (isAsked) this.#tell();
    else this.#telling ||= setTimeout(() => this.#tell(), TOLD_MS);
  }

  #telling = 0;
  #tell() {
    clearTimeout(this.#telling);
    this.#telling = 0;
    this.canvas.setAttribute("aria-valuenow", String(Math.round((this.here - this.from) / 1000)));
    this.canvas.setAttribute("aria-valuetext", clock(this.here));
  }

  show(line, marks, gaps) {
    Object.assign(this, { line, marks, gaps });
    this.canvas.setAttribute("aria-valuemin", "0");
    this.canvas.setAttribute("aria-valuemax", String(Math.round((this.to - this.from) / 1000)));
    this.draw();
  }

  #at(x) { return this.from + Math.min(1, Math.max(0, x / this.canvas.clientWidth)) * (this.to - this.from); }
  #x(us) { return (us - this.from) / (this.to - this.from) * this.#width; }
  #width = 0;           // in pixels that are drawn, each of them as many of CSS as the page's text is larger than 15 px

  #scrub(down) {
    this.canvas.setPointerCapture(down.pointerId);
    const to = event => { const us = this.#at(event.offsetX); this.move(us); this.onseek(us); };
    const up = () => {
      this.canvas.removeEventListener("pointermove", to);
      this.canvas.removeEventListener("pointerup", up);
      this.canvas.removeEventListener("pointercancel", up);
    };
    this.canvas.addEventListener("pointermove", to);
    this.canvas.addEventListener("pointerup", up);
    this.canvas.addEventListener("pointercancel", up);
    to(down);
  }

  #key(event) {
    const page = (this.to - this.from) / 20, steps = { ArrowLeft: -1e6, ArrowRight: 1e6, PageDown: -page, PageUp: page };
    let us = null;
    if (event.key in steps) us = (this.here ?? this.from) + steps[event.key];
    else if (event.key === "Home") us = this.from;
    else if (event.key === "End") us = this.to;
    else return;
    event.preventDefault();
    event.stopPropagation();
    us = Math.min(this.to, Math.max(this.from, us));
    this.move(us, true);
    this.onseek(us);
  }

  /** The tick's time, as near as the spans tell. */
  timeOf(epoch, tick) {
    const spans = this.line?.spans ?? [];
    for (let i = 0; i < spans.length; i++) {
      const span = spans[i], next = spans[i + 1];
      if (span.epoch !== epoch) continue;
      if (next?.epoch === epoch && next.tick <= tick) continue;
      if (!next || next.epoch !== epoch || next.tick <= span.tick) return span.at_us;
      return span.at_us + Math.max(0, tick - span.tick) / (next.tick - span.tick) * (next.at_us - span.at_us);
    }
    return this.from;
  }

  draw() {
    const pen = this.pen, style = getComputedStyle(this.canvas), unit = unitOf(style), ratio = (devicePixelRatio || 1) * unit;
    const width = this.#width = this.canvas.clientWidth / unit, height = this.canvas.clientHeight / unit;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (!this.line?.spans.length) return;
    const accent = style.getPropertyValue("--accent"), bad = style.getPropertyValue("--bad");
    this.#density(width, height, accent);
    pen.fillStyle = bad;
    for (const gap of this.gaps) {
      const left = this.#x(this.timeOf(gap.epoch, gap.from)), right = this.#x(this.timeOf(gap.epoch, gap.to));
      pen.fillRect(left, height - 5, Math.max(2, right - left), 5);
    }
    this.#signs(style.color, height);
    if (this.here === null) return;
    pen.fillStyle = style.color;
    pen.fillRect(this.#x(this.here) - 1, 0, 2, height);
  }

  #density(width, height, accent) {
    const spans = this.line.spans, pen = this.pen;
    const least = (this.to - this.from) / width; // a bar is a pixel wide at least: the last span may be a row that came just now
    const rates = spans.map((span, i) => span.rows / Math.max(1, least, (spans[i + 1]?.at_us ?? this.to) - span.at_us)), top = Math.max(...rates, 1e-12);
    pen.fillStyle = accent;
    pen.globalAlpha = 0.6;
    spans.forEach((span, i) => {
      const left = this.#x(span.at_us), right = this.#x(spans[i + 1]?.at_us ?? this.to), tall = Math.max(1, rates[i] / top * (height - LINE - 6));
      pen.fillRect(left, height - 6 - tall, Math.max(1, right - left), tall);
    });
    pen.globalAlpha = 1;
  }

  /** Where epochs begin, and the marks with their names. */
  #signs(ink, height) {
    const pen = this.pen;
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = ink;
    for (const { epoch, started_at } of this.line.epochs) {
      if (started_at < this.from) continue;
      pen.globalAlpha = 0.35;
      pen.fillRect(this.#x(started_at), LINE - 12, 1, height);
      pen.globalAlpha = 0.7;
      pen.fillText(`epoch ${epoch}`, this.#x(started_at) + 3, LINE);
    }
    pen.globalAlpha = 1;
    let free = 0;
    for (const mark of this.marks) {
      const x = this.#x(mark.at_us);
      pen.beginPath();
      pen.moveTo(x, 14); pen.lineTo(x - 4, 6); pen.lineTo(x + 4, 6);
      pen.fill();
      if (x < free) continue;
      pen.fillText(mark.name.slice(0, 24), x + 6, 13);
      free = x + 10 + pen.measureText(mark.name.slice(0, 24)).width;
    }
  }
}
