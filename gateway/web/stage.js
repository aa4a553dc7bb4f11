// A canvas that shows a world's records from above: where each is, which way it looks, what it is called.

import { Cells } from "./cells.js";
import { Labels } from "./labels.js";
import { Marks } from "./marks.js";
import { Motion } from "./motion.js";
import { inkChanges, unitOf } from "./parts.js";

const MARGIN = 28, TRAILED_MAX = 2_000, PICK_PX = 16, BEYOND = 20;

/** Draws whatever `source` answers: {keys(): Iterable<number>, get(key): Uint8Array}. */
export class Stage {
  layout = null;
  source = null;
  ghost = null;         // another moment, drawn hollow
  glides = false;       // whether what moved goes to where it is, in the pictures between
  selected = null;
  hovered = null;
  onselect = () => {};
  drawn = 0;            // frames drawn, and how long the last one took
  tookMs = 0;
  #view = null;         // {x, y, scale}: what lies in the middle, and pixels a unit; null: all of it
  #motion = new Motion();
  #other = new Motion();  // the ghost's
  #marks = new Marks();
  #labels = new Labels();
  #cells = new Cells();
  #visible = [];
  #due = false;

  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    new ResizeObserver(() => this.refresh()).observe(canvas);
    inkChanges(() => this.refresh());
    canvas.addEventListener("wheel", event => { event.preventDefault(); this.zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY); }, { passive: false });
    canvas.addEventListener("pointerdown", event => this.#drag(event));
    canvas.addEventListener("pointermove", event => this.#hover(event.buttons ? null : this.#near(event.offsetX, event.offsetY)));
    canvas.addEventListener("pointerleave", () => this.#hover(null));
    canvas.addEventListener("keydown", event => this.#key(event));
  }

  /** A picture with the browser's next frame. */
  refresh() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => { this.#due = false; this.draw(performance.now()); });
  }

  get trails() { return this.#motion.trails; }
  set trails(on) { this.#motion.trails = on; }

  forgetTrails() { this.#motion.forgetTrails(); }
  fit() { this.#look(null); }

  #look(view) {
    this.#view = view;
    this.#labels.forget();
    this.refresh();
  }

  /** Where a record was drawn, in CSS pixels of the canvas; null where it was not. */
  placeOf(key) {
    return this.#drawnAt(key)?.map(at => at * this.#unit) ?? null;
  }

  #drawnAt(key) {
    if (!this.layout?.position.length) return this.#cells.places.get(key) ?? null;
    const row = this.#motion.rows.get(key);
    return row?.isPlaced ? [row.right, row.down] : null;
  }

  /** The records whose names are in the picture: key -> name. */
  get labels() { return this.#labels.shown; }

  /** Around a place of the canvas, in its CSS pixels; without one, around its middle. */
  zoom(by, right = this.canvas.clientWidth / 2, down = this.canvas.clientHeight / 2) {
    const view = this.#now(), scale = Math.min(1e6, Math.max(1e-6, view.scale * by)), x = right / this.#unit - this.#width / 2, y = down / this.#unit - this.#height / 2;
    this.#look({ x: view.x + x / view.scale - x / scale, y: view.y - y / view.scale + y / scale, scale });
  }

  pan(dx, dy) {
    const view = this.#now();
    const scale = view.scale * this.#unit;
    this.#look({ ...view, x: view.x - dx / scale, y: view.y + dy / scale });
  }

  get #width() { return this.canvas.clientWidth / this.#unit; }
  get #height() { return this.canvas.clientHeight / this.#unit; }
  #unit = 1;            // CSS pixels of the canvas a pixel that is drawn
  #now() { return this.#view ?? this.#fitted ?? { x: 0, y: 0, scale: 20 }; }
  #fitted = null;

  #key(event) {
    const step = 40, moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.key in moves) this.pan(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(1.25);
    else if (event.key === "-") this.zoom(0.8);
    else if (event.key === "0") this.fit();
    else if (event.key === "n") this.#walk(1);
    else if (event.key === "p") this.#walk(-1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #drag(down) {
    let moved = false, [x, y] = [down.clientX, down.clientY];
    this.canvas.setPointerCapture(down.pointerId);
    const move = event => {
      if (!moved && Math.hypot(event.clientX - x, event.clientY - y) < 4) return;
      moved = true;
      this.pan(event.clientX - x, event.clientY - y);
      [x, y] = [event.clientX, event.clientY];
    };
    const up = event => {
      this.canvas.removeEventListener("pointermove", move);
      this.canvas.removeEventListener("pointerup", up);
      this.canvas.removeEventListener("pointercancel", up);
      if (!moved && event.type === "pointerup") this.#pick(event.offsetX, event.offsetY);
    };
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", up);
    this.canvas.addEventListener("pointercancel", up);
  }

  #pick(x, y) { this.select(this.#near(x, y)); }

  /** The record that is next to a place of the picture; null where none is near. */
  #near(x, y) {
    let best = null, least = PICK_PX;
    const consider = (key, right, down) => {
      const distance = Math.hypot(right - x / this.#unit, down - y / this.#unit);
      if (distance < least) [best, least] = [key, distance];
    };
    if (this.layout?.position.length) for (const row of this.#visible) consider(row.key, row.right, row.down);
    else for (const [key, [right, down]] of this.#cells.places) consider(key, right, down);
    return best;
  }

  /** The next record by its key, or the one before; from none, the first or the last. */
  #walk(by) {
    const keys = [...this.source?.keys() ?? []].sort((a, b) => a - b), at = keys.indexOf(this.selected);
    if (keys.length) this.select(keys[at < 0 ? (by > 0 ? 0 : keys.length - 1) : (at + by + keys.length) % keys.length]);
  }

  #hover(key) {
    if (key === this.hovered) return;
    this.hovered = key;
    this.canvas.style.cursor = key === null ? "" : "pointer";
    this.refresh();
  }

  select(key) {
    this.selected = key;
    this.onselect(key);
    this.refresh();
  }

  /** The picture of a moment (`performance.now()`); without one, that of where everything is told to be. */
  draw(now = Infinity) {
    const began = performance.now(), pen = this.pen, style = getComputedStyle(this.canvas);
    this.#unit = unitOf(style);
    const ratio = (devicePixelRatio || 1) * this.#unit, width = this.#width, height = this.#height;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      this.#labels.forget();
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    this.#ink = style.color;
    this.#back = style.getPropertyValue("--ground");
    if (this.source) {
      if (this.layout?.position.length) this.#map(width, height, ratio, began, now);
      else if (this.#cells.draw(pen, this.source, width, height, this.#ink, this.#back, began)) this.refresh();
      this.#ring();
    }
    this.drawn++;
    this.tookMs = performance.now() - began;
  }

  #ink = "#888";
  #back = "#888";

  #map(width, height, ratio, began, now) {
    const motion = this.#motion, other = this.#other, { pen } = this;
    motion.take(this.source, this.layout, began, this.glides);
    if (this.ghost) other.take(this.ghost, this.layout, began, false);
    else other.rows.clear();
    this.#fit([...motion.rows.values(), ...other.rows.values()].filter(row => row.isPlaced), width, height);
    const view = this.#now(), across = x => width / 2 + (x - view.x) * view.scale, along = y => height / 2 - (y - view.y) * view.scale;
    this.#grid(view, width, height);
    if (this.trails) this.#drawTrails(across, along);
    pen.lineWidth = 1.5;
    for (const row of other.rows.values()) if (row.isPlaced) this.#marks.hollow(pen, this.#styled(row), across(row.x), along(row.y));
    this.#visible = this.#seen(width, height, view, now);
    this.#marks.draw(pen, this.#visible, now, ratio);
    this.#labels.draw(pen, this.#visible, row => this.#named(row), new Set([this.selected, this.hovered]), this.#ink, now);
    if (this.glides && motion.until > began) this.refresh();
  }

  /** The rows in the picture, each told where in it. */
  #seen(width, height, view, now) {
    const visible = [];
    for (const row of this.#motion.rows.values()) {
      if (!row.isPlaced) continue;
      const right = row.right = width / 2 + (row.xAt(now) - view.x) * view.scale, down = row.down = height / 2 - (row.yAt(now) - view.y) * view.scale;
      if (right < -BEYOND || down < -BEYOND || right > width + BEYOND || down > height + BEYOND) continue;
      this.#styled(row);
      visible.push(row);
    }
    return visible;
  }

  #styled(row) { return row.style ??= this.#marks.style(this.layout.kindOf(row.record)); }
  #named(row) { return String((this.layout.label ? this.layout.label.value(row.record) : null) ?? row.key); }

  /** All of it in sight; what is in sight already stays where it is. */
  #fit(found, width, height) {
    if (!found.length) return;
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const { x, y } of found) { left = Math.min(left, x); right = Math.max(right, x); low = Math.min(low, y); high = Math.max(high, y); }
    const old = this.#fitted;
    const fits = old && left >= old.left && right <= old.right && low >= old.low && high <= old.high && (right - left) * 3 > old.right - old.left && old.width === width && old.height === height;
    if (fits) return;
    const room = 0.15 * Math.max(right - left, high - low, 1);
    [left, right, low, high] = [left - room, right + room, low - room, high + room];
    const scale = Math.min((width - 2 * MARGIN) / (right - left), (height - 2 * MARGIN) / (high - low));
    this.#fitted = { x: (left + right) / 2, y: (low + high) / 2, scale: Math.max(scale, 1e-6), left, right, low, high, width, height };
  }

  #grid(view, width, height) {
    const pen = this.pen, unit = 10 ** Math.ceil(Math.log10(50 / view.scale)), step = unit * view.scale;
    pen.globalAlpha = 0.15;
    pen.strokeStyle = this.#ink;
    pen.lineWidth = 1;
    pen.beginPath();
    const firstX = width / 2 - view.x % unit * view.scale, firstY = height / 2 + view.y % unit * view.scale;
    for (let x = firstX - Math.ceil(firstX / step) * step; x < width; x += step) { pen.moveTo(x, 0); pen.lineTo(x, height); }
    for (let y = firstY - Math.ceil(firstY / step) * step; y < height; y += step) { pen.moveTo(0, y); pen.lineTo(width, y); }
    pen.stroke();
    pen.globalAlpha = 0.6;
    pen.fillStyle = this.#ink;
    pen.font = "11px system-ui, sans-serif";
    pen.fillText(`${unit} ${this.layout.position[0].field.unit || ""}`.trim(), 8, height - 8);
    pen.fillRect(8, height - 6, Math.min(step, width - 16), 1);
    pen.globalAlpha = 1;
  }

  #ring() {
    const at = this.selected === null ? null : this.#drawnAt(this.selected);
    if (!at) return;
    this.pen.strokeStyle = this.#ink;
    this.pen.lineWidth = 2;
    this.pen.beginPath();
    this.pen.arc(at[0], at[1], 11, 0, 7);
    this.pen.stroke();
  }

  #drawTrails(across, along) {
    const { pen } = this, { rows } = this.#motion;
    if (rows.size > TRAILED_MAX) return;
    pen.lineWidth = 1;
    pen.globalAlpha = 0.45;
    for (const row of rows.values()) {
      if (!row.trail) continue;
      pen.strokeStyle = this.#styled(row).colour;
      pen.beginPath();
      row.trail.forEach(([x, y], i) => { if (i) pen.lineTo(across(x), along(y)); else pen.moveTo(across(x), along(y)); });
      pen.stroke();
    }
    pen.globalAlpha = 1;
  }
}
