// What a record looks like: a shape and a colour for each class, with a line where it looks. Each is drawn once for every direction
// and then copied: without a GPU that takes half of what drawing 1,800 of them with their lines does.

const SHAPES = 3, COLOURS = 24, STYLES = SHAPES * COLOURS, BOX = 24, HEADING = 11, TURNS = 32, TURN = 2 * Math.PI, EDGE = "#0008";

/** A number of a text, the same in every page. */
const hashed = text => [...text].reduce((sum, letter) => Math.imul(sum ^ letter.codePointAt(0), 16_777_619) >>> 0, 2_166_136_261);

function outline(pen, shape, x, y) {
  pen.beginPath();
  if (shape === 0) pen.arc(x, y, 5, 0, 7);
  else if (shape === 1) pen.rect(x - 4.5, y - 4.5, 9, 9);
  else { pen.moveTo(x, y - 6); pen.lineTo(x + 5.5, y + 4); pen.lineTo(x - 5.5, y + 4); pen.closePath(); }
}

/** The classes that there are, in the order in which they came; beyond STYLES of them some look alike. */
export class Marks {
  #styles = new Map();

  /** Of a class, as text. */
  style(kind) {
    let style = this.#styles.get(kind);
    if (style) return style;
    const isNew = this.#styles.size < STYLES, n = isNew ? this.#styles.size : hashed(kind) % STYLES;
    style = isNew ? { colour: `hsl(${(n * 137.5 + 205) % 360} 70% 52%)`, shape: n % SHAPES, sprites: [], ratio: 0 } : [...this.#styles.values()][n];
    if (isNew) this.#styles.set(kind, style);
    return style;
  }

  /** All rows that are in the picture, at their `right` and `down`. */
  draw(pen, rows, now, ratio) {
    const whole = pixels => Math.round(pixels * ratio) / ratio; // a copy that falls between pixels is dearer, and blurred
    for (const row of rows) {
      const angle = row.angleAt(now), turn = angle === null ? TURNS : Math.round(angle / TURN * TURNS) & (TURNS - 1);
      pen.drawImage(this.#sprite(row.style, turn, ratio), whole(row.right - BOX / 2), whole(row.down - BOX / 2), BOX, BOX);
    }
  }

  /** One that is of another moment: its outline. */
  hollow(pen, style, x, y) {
    outline(pen, style.shape, x, y);
    pen.globalAlpha = 0.7;
    pen.strokeStyle = style.colour;
    pen.stroke();
    pen.globalAlpha = 1;
  }

  /** `turn`: the direction, one of TURNS; TURNS itself: none. */
  #sprite(style, turn, ratio) {
    if (style.ratio !== ratio) Object.assign(style, { ratio, sprites: [] });
    if (style.sprites[turn]) return style.sprites[turn];
    const size = Math.ceil(BOX * ratio), sprite = new OffscreenCanvas(size, size), pen = sprite.getContext("2d"), middle = BOX / 2;
    pen.scale(size / BOX, size / BOX);
    pen.fillStyle = style.colour;
    outline(pen, style.shape, middle, middle);
    pen.fill();
    pen.lineWidth = 0.75;
    pen.strokeStyle = EDGE;
    pen.stroke(); // in a crowd one is told from the next
    if (turn < TURNS) {
      const angle = turn * TURN / TURNS;
      pen.lineWidth = 1.5;
      pen.strokeStyle = style.colour;
      pen.beginPath();
      pen.moveTo(middle, middle);
      pen.lineTo(middle + HEADING * Math.sin(angle), middle - HEADING * Math.cos(angle));
      pen.stroke();
    }
    return style.sprites[turn] = sprite.transferToImageBitmap();
  }
}
