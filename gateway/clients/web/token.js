// Tokens, and when to get another (docs/ACCESS.md).

const TOKEN_MARGIN_S = 300;

/** A token, and when to get another: a string, or a function that answers a fresh one (or a promise of it). */
export class Token {
  constructor(source) { this.source = source; this.held = null; this.due = 0; }
  get renews() { return typeof this.source === "function"; }

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
    this.due = Date.now() + left - Math.min(left / 4, TOKEN_MARGIN_S * 1000);
    return this.held;
  }
}

/** When a token ends by its own word, in Unix seconds (RFC 7519, `exp`); null where it does not say. */
function expiry(token) {
  try { return Number(JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))).exp) || null; } catch { return null; }
}
