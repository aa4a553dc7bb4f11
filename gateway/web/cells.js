// A world whose bytes mean nothing yet: a cell a record, bright where it changed lately.

const GLOW_MS = 600, SIZE_MAX = 40, NAMED_FROM = 28;

export class Cells {
  places = new Map();   // key -> [pixels right, pixels down], of the last picture
  #seen = new Map();    // key -> the bytes that its cell showed last, and when they changed

  /** Ink with a rim of the page's own ground, so that it is read on a cell of any colour. */
  #number(pen, number, x, y, ink, back) {
    [pen.strokeStyle, pen.lineWidth, pen.lineJoin] = [back, 3, "round"];
    pen.strokeText(number, x, y);
    pen.fillStyle = ink;
    pen.fillText(number, x, y);
  }

  /** Draws them; true while some still fade. */
  draw(pen, source, width, height, ink, back, now) {
    const keys = [...source.keys()].sort((a, b) => a - b);
    const size = Math.max(2, Math.min(SIZE_MAX, Math.floor(Math.sqrt(width * height / Math.max(1, keys.length)) - 1)));
    const across = Math.max(1, Math.floor(width / (size + 1)));
    let busy = false;
    this.places.clear();
    keys.forEach((key, i) => {
      const record = source.get(key), x = i % across * (size + 1), y = Math.floor(i / across) * (size + 1);
      if (y > height) return;
      let cell = this.#seen.get(key);
      if (!cell || cell.record !== record) this.#seen.set(key, cell = { record, at: now });
      const glow = Math.max(0, 1 - (now - cell.at) / GLOW_MS);
      busy ||= glow > 0;
      pen.fillStyle = `hsl(${key * 137.5 % 360} 60% 50% / ${0.2 + 0.8 * glow})`;
      pen.fillRect(x, y, size, size);
      this.places.set(key, [x + size / 2, y + size / 2]);
      if (size >= NAMED_FROM) { pen.font = "10px system-ui, sans-serif"; this.#number(pen, String(key), x + 2, y + size - 3, ink, back); }
    });
    for (const key of this.#seen.keys()) if (this.#seen.size > keys.length + 100) this.#seen.delete(key); else break;
    return busy;
  }
}
