// One number of one record over time, as a line on a canvas.

import { inkChanges, shown, unitOf } from "./parts.js";

const SAMPLES_MAX = 7_200, DRAW_MS = 100, LEFT = 8, TOP = 16, BOTTOM = 16, COMPONENTS_MAX = 16;

/** Follows what `choose` has chosen, of the record that the page has selected. */
export class Plot {
  layout = null;
  #samples = [];       // [x, value], x rising
  #drawn = -Infinity;
  #due = 0;

  /** `span`: how much of x is kept (Infinity: all of it); `named(x)`: x as a person reads it. */
  constructor(section, { span, named }) {
    this.section = section;
    this.canvas = section.querySelector("canvas");
    this.choose = section.querySelector("select");
    this.told = section.querySelector("output");
    this.pen = this.canvas.getContext("2d");
    Object.assign(this, { span, named });
    this.choose.onchange = () => this.forget();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    inkChanges(() => this.draw());
  }

  /** Another layout, or none: other fields to choose from. */
  show(layout) {
    this.layout = layout;
    const before = this.choose.value, numbers = (layout?.fields ?? []).filter(field => field.read || field.type === "variant");
    const names = numbers.flatMap(field => {
      const count = field.type === "variant" ? COMPONENTS_MAX : field.count;
      return count > 1 ? Array.from({ length: count }, (_, i) => `${field.name}.${i}`) : [field.name];
    });
    this.choose.replaceChildren(...names.map(name => new Option(name, name)));
    if (names.includes(before)) this.choose.value = before;
    else if (layout?.position.length) { const { field, index } = layout.position[0]; this.choose.value = field.count > 1 || field.type === "variant" ? `${field.name}.${index}` : field.name; }
    this.section.hidden = !names.length;
    this.forget();
  }

  forget() { this.#samples = []; this.#drawn = -Infinity; this.draw(); }

  get samples() { return this.#samples; }

  /** The record `key` as it is at `x`; what was noted of a later x is forgotten: somebody went back. */
  take(x, key, record) {
    if (!this.layout || this.section.hidden) return;
    if (key !== this.key) { this.key = key; this.#samples = []; }
    const value = record ? this.#value(record) : NaN, kept = this.#samples;
    while (kept.length && kept.at(-1)[0] >= x) kept.pop();
    if (Number.isFinite(value)) kept.push([x, value]);
    const over = kept.findIndex(sample => sample[0] >= x - this.span);
    if (over > 0) kept.splice(0, over);
    if (kept.length > SAMPLES_MAX) kept.splice(0, SAMPLES_MAX / 10);
    if (performance.now() - this.#drawn >= DRAW_MS) this.draw();
    else if (!this.#due) this.#due = setTimeout(() => this.draw(), DRAW_MS);
  }

  #field() {
    const [name, index = "0"] = this.choose.value.split(".");
    return [this.layout?.byName.get(name), Number(index)];
  }

  #value(record) {
    const [field, index] = this.#field();
    return field ? Number(field.numbers(record)[index] ?? NaN) : NaN;
  }

  draw() {
    clearTimeout(this.#due);
    this.#due = 0;
    this.#drawn = performance.now();
    const { canvas, pen } = this, style = getComputedStyle(canvas), unit = unitOf(style), ratio = (devicePixelRatio || 1) * unit;
    const width = canvas.clientWidth / unit, height = canvas.clientHeight / unit, kept = this.#samples;
    if (!width) return;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.#tell();
    if (kept.length < 2) return;
    let [low, high] = [Infinity, -Infinity];
    for (const [, value] of kept) { low = Math.min(low, value); high = Math.max(high, value); }
    const from = kept[0][0], across = (width - 2 * LEFT) / Math.max(kept.at(-1)[0] - from, 1e-9), up = (height - TOP - BOTTOM) / Math.max(high - low, 1e-9);
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = style.color;
    pen.fillText(shown(high), LEFT, 12);
    pen.fillText(shown(low), LEFT, height - 4);
    pen.textAlign = "right";
    pen.fillText(`${this.named(from)} to ${this.named(kept.at(-1)[0])}`, width - LEFT, height - 4);
    pen.textAlign = "left";
    pen.strokeStyle = style.getPropertyValue("--accent").trim() || style.color;
    pen.lineWidth = 1.5;
    pen.beginPath();
    kept.forEach(([x, value], i) => {
      const at = [LEFT + (x - from) * across, height - BOTTOM - (value - low) * up];
      if (i) pen.lineTo(...at); else pen.moveTo(...at);
    });
    pen.stroke();
  }

  /** In words, for who does not see the line. */
  #tell() {
    const kept = this.#samples, unit = this.#field()[0]?.unit ?? "";
    let text = this.key === null || this.key === undefined ? "choose a record on the picture or in the table" : "nothing yet";
    if (kept.length) {
      const values = kept.map(sample => sample[1]);
      text = `record ${this.key}: ${shown(values.at(-1))} ${unit}, from ${shown(values.reduce((a, b) => Math.min(a, b)))} to ${shown(values.reduce((a, b) => Math.max(a, b)))}`;
    }
    this.told.value = text;
    this.canvas.setAttribute("aria-label", `${this.choose.value || "no field"} over time, ${text}`);
  }
}
