// Tokens, and when to get another (docs/ACCESS.md).

const TOKEN_MARGIN_S = 300, AGAIN_MS = 1000;

/** A token, and when to get another: a string, or a function that answers a fresh one (or a promise of it). */
export class Token {
  constructor(source) { this.source = source; this.held = null; this.due = 0; }
  get renews() { return typeof this.source === "function"; }

  /** So long before its end a token that has so many seconds left is renewed. */
  static marginS(leftS) { return Math.min(Math.max(leftS, 0) / 4, TOKEN_MARGIN_S); }

  /** The one to use now. */
  async current() {
    if (!this.renews) return this.source;
    return this.held && Date.now() < this.due ? this.held : this.fresh();
  }

  async fresh() {
    let made;
    try { made = await this.source(); } catch (error) { throw new Error(`no token: the function token failed (${error?.name})`); }
    if (typeof made !== "string" || !made) throw new Error("no token: the function token gave none");
    this.held = made.trim();
    const left = (expiry(this.held) ?? Infinity) * 1000 - Date.now();
    this.due = Date.now() + left - Token.marginS(left / 1000) * 1000;
    return this.held;
  }
}

/** When a token ends by its own word, in Unix seconds (RFC 7519, `exp`); null where it does not say. */
export function expiry(token) {
  try {
    const parts = token.split("."), exp = parts.length === 3 ? JSON.parse(atob(parts[1].replace(/-/g, "+").replace(/_/g, "/"))).exp : null;
    return typeof exp === "number" && exp > 0 ? exp : null;
  } catch { return null; }
}

/** Says a fresh token before the old one ends, on the session that is open. `say(text)` sends it. */
export class Renewal {
  #timer = 0;
  #isOver = true;

  constructor(token, say) { this.token = token; this.say = say; }

  start() {
    this.stop();
    this.#isOver = false;
    if (this.token?.renews) this.#in(this.token.due - Date.now());
  }

  stop() { this.#isOver = true; clearTimeout(this.#timer); }

  #in(ms) {
    clearTimeout(this.#timer);
    if (this.#isOver || !Number.isFinite(ms)) return;
    this.#timer = setTimeout(async () => {
      let token;
      try { token = await this.token.fresh(); } catch { this.#in(AGAIN_MS); return; }
      if (this.#isOver) return;
      this.say(token);
      this.#in(Math.max(this.token.due - Date.now(), AGAIN_MS));
    }, Math.min(Math.max(ms, 0), 2 ** 31 - 1));
  }
}
