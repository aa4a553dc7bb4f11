// What the end of a session means: whether another one may follow (docs/FRAMES.md, "A refusal").

const TOKEN = /^(unauthorized|grant_refused|forbidden|grant_ended)$/; // what another token may mend
const TIME = /^(store|store_unavailable|overloaded|shutting_down|too_many|crowded|conflict|world_deleted)$/; // what time may mend
const CODES = { 3: "taken_over", 4: "publisher_present", 5: "malformed", 8: "grant_ended", 9: "unauthorized" };

/** Why no session follows. `code` is the gateway's; `url` and `world` say where the world is, if that is why. */
export class GatewayRefused extends Error {
  constructor(code, detail, facts = {}) {
    super(detail);
    this.name = "GatewayRefused";
    Object.assign(this, { code, detail, world: facts.world, url: facts.url });
  }
}

/** What may mend a refusal with this code: "token", "time" or, where trying again would not help, "nothing". */
export const mendedBy = code => (TOKEN.test(code) ? "token" : TIME.test(code) ? "time" : "nothing");

/** An `error` as the gateway would have said it, of a close that came without words; null where time may mend it. */
export function ofClose({ code, reason }) {
  const named = CODES[code];
  return named ? { code: named, message: reason || named } : null;
}

/** Why a `bye` ends it for who does not follow the world: a publisher, or a replay; null where it does not. */
export function ofBye({ reason, url }) {
  const isTaken = /^(taken_over|takeover)$/.test(reason) || (reason === "moved" && url);
  return isTaken ? `another publisher took the world over${url ? `, at ${url}` : ""}` : null;
}

/** Whether a `bye` says that another token is needed. */
export const isOfToken = ({ reason }) => /^(expired|revoked)$/.test(reason);
