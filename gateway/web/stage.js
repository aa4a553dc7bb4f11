// A canvas that shows a world's records from above: where each is, which way it looks, what it is called.

const MARGIN = 28, LABELS_MAX = 120, TRAIL_POINTS = 90, TRAILED_MAX = 2_000, PICK_PX = 16;
const SHAPES = 3; // beside its colour each class has a shape: circle, square, triangle

/** Draws whatever `source` answers: {keys(): Iterable<number>, get(key): Uint8Array}. */
export class Stage {
  layout = null;
  source = null;
  ghost = null;         // another moment, drawn hollow
  trails = false;
  selected = null;
  onselect = () => {};
  drawn = 0;            // frames drawn, and how long the last one took
  tookMs = 0;
  #view = null;         // {x, y, scale}: what lies in the middle, and pixels a unit; null: all of it
  #trail = new Map();
  #places = new Map();  // key -> [pixels right, pixels down], of the last picture
  #kinds = new Map();
  #due = false;

  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    new ResizeObserver(() => this.refresh()).observe(canvas);
    canvas.addEventListener("wheel", event => { event.preventDefault(); this.zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY); }, { passive: false });
    canvas.addEventListener("pointerdown", event => this.#drag(event));
    canvas.addEventListener("keydown", event => this.#key(event));
  }

  /** A picture with the browser's next frame. */
  refresh() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => { this.#due = false; this.draw(); });
  }

  forgetTrails() { this.#trail.clear(); }
  fit() { this.#view = null; this.refresh(); }

  /** Where a record was drawn, in CSS pixels of the canvas; null where it was not. */
  placeOf(key) { return this.#places.get(key) ?? null; }

  zoom(by, x = this.#width / 2, y = this.#height / 2) {
    const view = this.#now(), scale = Math.min(1e6, Math.max(1e-6, view.scale * by));
    const right = view.x + (x - this.#width / 2) / view.scale, up = view.y - (y - this.#height / 2) / view.scale;
    this.#view = { x: right - (x - this.#width / 2) / scale, y: up + (y - this.#height / 2) / scale, scale };
    this.refresh();
  }

  pan(dx, dy) {
    const view = this.#now();
    this.#view = { ...view, x: view.x - dx / view.scale, y: view.y + dy / view.scale };
    this.refresh();
  }

  get #width() { return this.canvas.clientWidth; }
  get #height() { return this.canvas.clientHeight; }
  #now() { return this.#view ?? this.#fitted ?? { x: 0, y: 0, scale: 20 }; }
  #fitted = null;

  #key(event) {
    const step = 40, moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.key in moves) this.pan(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(1.25);
    else if (event.key === "-") this.zoom(0.8);
    else if (event.key === "0") this.fit();
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

  #pick(x, y) {
    let best = null, least = PICK_PX;
    for (const [key, [right, down]] of this.#places) {
      const distance = Math.hypot(right - x, down - y);
      if (distance < least) [best, least] = [key, distance];
    }
    this.select(best);
  }

  select(key) {
    this.selected = key;
    this.onselect(key);
    this.refresh();
  }

  draw() {
    const began = performance.now(), pen = this.pen, ratio = devicePixelRatio || 1, width = this.#width, height = this.#height;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    this.#ink = getComputedStyle(this.canvas).color;
    this.#places.clear();
    if (this.source) {
      if (this.layout?.position.length) this.#map(width, height);
      else this.#cells(width, height);
    }
    this.drawn++;
    this.tookMs = performance.now() - began;
  }

  #ink = "#888";

  /** [key, right, up, record] of every record that says where it is. */
  #placed(source) {
    const found = [];
    for (const key of source.keys()) {
      const record = source.get(key), at = record && this.layout.place(record);
      if (at) found.push([key, at[0], at[1], record]);
    }
    return found;
  }

  #map(width, height) {
    const found = this.#placed(this.source), ghosts = this.ghost ? this.#placed(this.ghost) : [];
    this.#fit([...found, ...ghosts], width, height);
    const view = this.#now(), at = (x, y) => [width / 2 + (x - view.x) * view.scale, height / 2 - (y - view.y) * view.scale];
    this.#grid(view, width, height);
    if (this.trails) this.#drawTrails(found, at);
    this.pen.lineWidth = 1.5;
    for (const [, x, y, record] of ghosts) this.#mark(...at(x, y), record, true);
    let visible = 0;
    for (const [key, x, y, record] of found) {
      const place = at(x, y);
      this.#places.set(key, place);
      if (place[0] < -20 || place[1] < -20 || place[0] > width + 20 || place[1] > height + 20) continue;
      visible++;
      this.#mark(...place, record, false);
    }
    if (visible <= LABELS_MAX) this.#labels(found, width, height);
    this.#ring();
  }

  /** All of it in sight; what is in sight already stays where it is. */
  #fit(found, width, height) {
    if (!found.length) return;
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const [, x, y] of found) { left = Math.min(left, x); right = Math.max(right, x); low = Math.min(low, y); high = Math.max(high, y); }
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

  #kindOf(record) {
    const kind = this.layout.kind ? String(this.layout.kind.value(record)) : "";
    let known = this.#kinds.get(kind);
    if (!known) {
      if (this.#kinds.size > 500) this.#kinds.clear();
      const n = this.#kinds.size;
      known = { colour: `hsl(${(n * 137.5 + 205) % 360} 70% 52%)`, shape: n % SHAPES };
      this.#kinds.set(kind, known);
    }
    return known;
  }

  #mark(x, y, record, hollow) {
    const pen = this.pen, { colour, shape } = this.#kindOf(record), angle = this.layout.angle(record);
    pen.beginPath();
    if (shape === 0) pen.arc(x, y, 5, 0, 7);
    else if (shape === 1) pen.rect(x - 4.5, y - 4.5, 9, 9);
    else { pen.moveTo(x, y - 6); pen.lineTo(x + 5.5, y + 4); pen.lineTo(x - 5.5, y + 4); pen.closePath(); }
    if (hollow) { pen.globalAlpha = 0.7; pen.strokeStyle = colour; pen.stroke(); pen.globalAlpha = 1; return; }
    pen.fillStyle = colour;
    pen.fill();
    if (angle === null) return;
    pen.strokeStyle = colour;
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(x + 11 * Math.sin(angle), y - 11 * Math.cos(angle));
    pen.stroke();
  }

  #labels(found) {
    const pen = this.pen, done = new Set();
    pen.fillStyle = this.#ink;
    pen.font = "12px system-ui, sans-serif";
    for (const [key, , , record] of found) {
      const label = this.layout.label ? String(this.layout.label.value(record) ?? key) : String(key);
      const [x, y] = this.#places.get(key), spot = `${label} ${Math.round(x / 24)} ${Math.round(y / 24)}`;
      if (done.has(spot)) continue; // the bones of one avatar
      done.add(spot);
      pen.fillText(label.slice(0, 40), x + 8, y - 6);
    }
  }

  #ring() {
    const at = this.#places.get(this.selected);
    if (!at) return;
    this.pen.strokeStyle = this.#ink;
    this.pen.lineWidth = 2;
    this.pen.beginPath();
    this.pen.arc(at[0], at[1], 11, 0, 7);
    this.pen.stroke();
  }

  #drawTrails(found, at) {
    if (found.length > TRAILED_MAX) return;
    const pen = this.pen, here = new Set();
    pen.lineWidth = 1;
    for (const [key, x, y, record] of found) {
      here.add(key);
      const trail = this.#trail.get(key) ?? [], last = trail.at(-1);
      if (!last || last[0] !== x || last[1] !== y) trail.push([x, y]);
      if (trail.length > TRAIL_POINTS) trail.shift();
      this.#trail.set(key, trail);
      pen.strokeStyle = this.#kindOf(record).colour;
      pen.globalAlpha = 0.45;
      pen.beginPath();
      trail.forEach((point, i) => { const [right, down] = at(...point); if (i) pen.lineTo(right, down); else pen.moveTo(right, down); });
      pen.stroke();
    }
    pen.globalAlpha = 1;
    for (const key of this.#trail.keys()) if (!here.has(key)) this.#trail.delete(key);
  }

  #bytes = new Map(); // key -> the bytes that a cell showed last, and when they changed

  /** Without a layout: a cell a record, bright where it changed lately. */
  #cells(width, height) {
    const keys = [...this.source.keys()].sort((a, b) => a - b), pen = this.pen, now = performance.now();
    const size = Math.max(2, Math.min(40, Math.floor(Math.sqrt(width * height / Math.max(1, keys.length)) - 1)));
    const across = Math.max(1, Math.floor(width / (size + 1)));
    let busy = false;
    keys.forEach((key, i) => {
      const record = this.source.get(key), x = i % across * (size + 1), y = Math.floor(i / across) * (size + 1);
      if (y > height) return;
      let cell = this.#bytes.get(key);
      if (!cell || cell.record !== record) this.#bytes.set(key, cell = { record, at: now });
      const glow = Math.max(0, 1 - (now - cell.at) / 600);
      busy ||= glow > 0;
      pen.fillStyle = `hsl(${key * 137.5 % 360} 60% 50% / ${0.2 + 0.8 * glow})`;
      pen.fillRect(x, y, size, size);
      this.#places.set(key, [x + size / 2, y + size / 2]);
      if (size >= 28) { pen.fillStyle = this.#ink; pen.font = "10px system-ui, sans-serif"; pen.fillText(String(key), x + 2, y + size - 3); }
    });
    for (const key of this.#bytes.keys()) if (this.#bytes.size > keys.length + 100) this.#bytes.delete(key); else break;
    this.#ring();
    if (busy) this.refresh();
  }
}
