// Where records are between what was told of them: each goes from where it was shown to where it is told to be, in the time that
// lay between its last two values. So pictures are smooth at any tick rate; of a world at 60 Hz they are a tick late at most.

const GLIDE_MS_MAX = 200, TRAIL_POINTS = 90, TURN = 2 * Math.PI;

class Row {
  constructor(key) {
    this.key = key;
    this.record = null;
    this.isPlaced = false;
    this.x = this.y = this.fromX = this.fromY = 0; // right and up, in the layout's unit
    this.angle = this.turned = null;               // told last, and by how much that differs from the one before
    this.at = this.ms = 0;                         // when it began to go there, and how long it takes
    this.toldAt = -Infinity;
    this.right = this.down = 0;                    // where it is in the newest picture, in pixels
    this.style = null;
    this.trail = null;
    this.round = 0;
  }

  /** How much of the way is still to go: 1 at its beginning, 0 at its end. */
  left(now) { return now >= this.at + this.ms ? 0 : 1 - (now - this.at) / this.ms; }

  xAt(now) { return this.x + (this.fromX - this.x) * this.left(now); }
  yAt(now) { return this.y + (this.fromY - this.y) * this.left(now); }
  angleAt(now) { return this.angle === null ? null : this.angle - this.turned * this.left(now); }
}

/** A row a record of `{keys(): Iterable<number>, get(key): Uint8Array}`, by a layout. */
export class Motion {
  rows = new Map();
  until = 0;     // when all will have arrived (performance.now())
  trails = false;
  #layout = null;
  #round = 0;

  /** What `source` says now. `glides`: whether what moved goes there, or is there. */
  take(source, layout, now, glides) {
    if (layout !== this.#layout) { this.rows.clear(); this.#layout = layout; }
    const round = ++this.#round;
    let count = 0;
    for (const key of source.keys()) {
      const record = source.get(key);
      if (!record) continue;
      let row = this.rows.get(key);
      if (!row) this.rows.set(key, row = new Row(key));
      if (row.record !== record) this.#told(row, record, now, glides);
      row.round = round;
      count++;
    }
    if (this.rows.size > count) for (const [key, row] of this.rows) if (row.round !== round) this.rows.delete(key);
  }

  #told(row, record, now, glides) {
    const place = this.#layout.place(record), angle = this.#layout.angle(record);
    const is = Boolean(place), ms = glides && is && row.isPlaced ? Math.min(GLIDE_MS_MAX, now - row.toldAt) : 0;
    row.record = record;
    row.style = null;
    row.toldAt = now;
    if (is) {
      const turned = angle === null || row.angle === null ? 0 : angle - row.angleAt(now);
      [row.fromX, row.fromY] = ms ? [row.xAt(now), row.yAt(now)] : place;
      [row.x, row.y] = place;
      row.turned = turned - TURN * Math.round(turned / TURN); // the shorter way round
      row.at = now;
      row.ms = ms;
      if (ms && now + ms > this.until) this.until = now + ms;
      if (this.trails) this.#trail(row);
    }
    row.angle = angle;
    row.isPlaced = is;
  }

  #trail(row) {
    const trail = row.trail ??= [], last = trail.at(-1);
    if (!last || last[0] !== row.x || last[1] !== row.y) trail.push([row.x, row.y]);
    if (trail.length > TRAIL_POINTS) trail.shift();
  }

  forgetTrails() { for (const row of this.rows.values()) row.trail = null; }
}
