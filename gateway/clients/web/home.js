// Which gateway is asked: the one that was given, or where the world went from there.

const HOPS_MAX = 4;

export class Home {
  constructor(given) { this.given = this.address = given; this.hops = 0; }

  /** Whether the gateway at `url` is asked next: never by clear text where we came by TLS, and not round in circles. */
  follow(url) {
    let to;
    try { to = new URL(url).origin; } catch { return false; }
    if (!/^https?:/.test(to) || (/^https:/.test(this.given) && !/^https:/.test(to))) return false;
    if (to === this.address || this.hops >= HOPS_MAX) return false;
    this.hops++;
    this.address = to;
    return true;
  }

  /** A gateway let us in: what follows is another journey. */
  arrived() { this.hops = 0; }

  /** One that we were sent to did not: the given one knows where the world is now. */
  back() { this.address = this.given; }

  get isAway() { return this.hops > 0 || this.address !== this.given; }
}
