// Names beside records, where there is room for them: none stands on another.

const HEIGHT = 15, RIGHT = 8, UP = 6, CELL = 64, LETTERS = 40, WIDTHS_KEPT = 4_096;
const SAME_PX = 48;        // one name twice within so many pixels says nothing more: the bones of one avatar
const CHOSEN_MS = 250;     // which ones are shown is chosen so often: names that come and go with each picture cannot be read
const LABELS_MAX = 60, TRIED_MAX = 2_000;

export class Labels {
  shown = new Map();       // key -> its text
  #chosenAt = -Infinity;
  #widths = new Map();

  /** Choose again with the next picture: another view. */
  forget() { this.#chosenAt = -Infinity; }

  /** `rows` in the picture, `named(row)` what each is called; those of `first` (keys) are named wherever they are. */
  draw(pen, rows, named, first, ink, now) {
    pen.font = "12px system-ui, sans-serif";
    if (!(Math.abs(now - this.#chosenAt) < CHOSEN_MS)) this.#choose(pen, rows, named, first, now);
    pen.fillStyle = ink;
    const here = rows.filter(row => first.has(row.key) || this.shown.has(row.key)).sort((a, b) => first.has(b.key) - first.has(a.key)), taken = new Map();
    for (const row of here) { // what was apart when it was chosen may have met since
      const text = named(row).slice(0, LETTERS);
      if (this.#place(taken, this.box(pen, row, text)) || first.has(row.key)) pen.fillText(text, row.right + RIGHT, row.down - UP);
    }
  }

  /** The box of a label: [left, top, right, bottom]. */
  box(pen, row, text) {
    const left = row.right + RIGHT, bottom = row.down - UP + 3;
    return [left, bottom - HEIGHT, left + this.#width(pen, text) + 4, bottom];
  }

  /** Those that were shown before come first: a name stays while it has its room. */
  #choose(pen, rows, named, first, now) {
    const before = this.shown, taken = new Map(), texts = new Map();
    const order = [...rows.filter(row => first.has(row.key)), ...rows.filter(row => before.has(row.key) && !first.has(row.key)), ...rows.filter(row => !before.has(row.key) && !first.has(row.key))];
    this.shown = new Map();
    this.#chosenAt = now;
    for (const row of order.slice(0, TRIED_MAX)) {
      if (this.shown.size >= LABELS_MAX) return;
      const text = named(row).slice(0, LETTERS), box = this.box(pen, row, text);
      const others = texts.get(text) ?? [];
      if (others.some(other => Math.hypot(other.right - row.right, other.down - row.down) < SAME_PX)) continue;
      if (!this.#place(taken, box) && !first.has(row.key)) continue;
      texts.set(text, [...others, row]);
      this.shown.set(row.key, text);
    }
  }

  /** Whether a box is free; then it is taken. */
  #place(taken, box) {
    const cells = [], [left, top, right, bottom] = box;
    for (let x = Math.floor(left / CELL); x <= Math.floor(right / CELL); x++)
      for (let y = Math.floor(top / CELL); y <= Math.floor(bottom / CELL); y++) {
        const cell = taken.get(`${x} ${y}`) ?? [];
        if (cell.some(other => left < other[2] && right > other[0] && top < other[3] && bottom > other[1])) return false;
        cells.push([`${x} ${y}`, cell]);
      }
    for (const [name, cell] of cells) taken.set(name, [...cell, box]);
    return true;
  }

  #width(pen, text) {
    let width = this.#widths.get(text);
    if (width !== undefined) return width;
    if (this.#widths.size >= WIDTHS_KEPT) this.#widths.clear();
    this.#widths.set(text, width = pen.measureText(text).width);
    return width;
  }
}
