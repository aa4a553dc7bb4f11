// When a page last heard from its gateway: what it shows is dimmed once that is old, and how old it is stands beside it.

import { tell } from "./parts.js";

const OLD_MS = 4000, LOOK_MS = 500;

/** How long a page waits for an answer, in milliseconds; then it asks again: on a dead path a request ends after minutes. */
export const PATIENCE_MS = 10_000;

const ago = seconds => seconds < 120 ? `${seconds} s` : `${Math.floor(seconds / 60)} min`;

export class Heard {
  /** `sign` tells how old it is (not live: the page's own words say once why); `shown` are the elements that grow old. */
  constructor(sign, ...shown) {
    Object.assign(this, { sign, shown, at: null, failed: false });
    setInterval(() => this.look(), LOOK_MS);
  }

  /** What is shown is of now. */
  take() { Object.assign(this, { at: performance.now(), failed: false }); this.look(); }

  /** It could not be had again. */
  miss() { this.failed = true; this.look(); }

  /** Nothing is shown. */
  forget() { Object.assign(this, { at: null, failed: false }); this.look(); }

  look() {
    const age = this.at === null ? 0 : performance.now() - this.at, old = this.at !== null && (this.failed || age > OLD_MS);
    for (const element of this.shown) element.classList.toggle("old", old);
    tell(this.sign, old ? `what is shown is old: last heard ${ago(Math.round(age / 1000))} ago` : "");
    this.sign.hidden = !old;
  }
}
