// Requests to the gateway that served this page, and the token that they may need.

let token = "";                   // in this variable alone: never stored, never in an address
const waiting = [];

/** What a session or a request says who it is; null where nobody asked. */
export const heldToken = () => token || null;

/** GET (or `options.method`) a path of this gateway. Asks for a token where one is wanted, and tries again with it. `options.patience`:
 * milliseconds that one try may take. */
export async function ask(path, options = {}) {
  for (;;) {
    const used = token;
    const headers = { ...(options.headers ?? {}), ...(used ? { authorization: `Bearer ${used}` } : {}) };
    const signal = options.patience ? AbortSignal.timeout(options.patience) : undefined;
    const answer = await fetch(path, { cache: "no-store", referrerPolicy: "no-referrer", signal, ...options, headers });
    if (answer.status !== 401 && answer.status !== 403) { if (answer.ok) shown(false); return answer; }
    const refused = await answer.clone().json().catch(() => ({}));
    if (answer.status === 403 && !["forbidden", "unauthorized"].includes(refused.code)) return answer;
    if (options.quiet) return answer;
    if (used === token) await wanted(used ? refused.detail ?? "refused" : "");
  }
}

/** The JSON of an answer; throws an Error with the problem's own words. */
export async function told(path, options) {
  const answer = await ask(path, options);
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(body.detail ?? `${path} answered ${answer.status}`), { status: answer.status, code: body.code });
  return body;
}

function wanted(why) {
  shown(true, why);
  document.dispatchEvent(new Event("asked")); // what was shown by another token goes
  return new Promise(done => waiting.push(done));
}

function shown(is, why = "") {
  const form = document.getElementById("ask");
  if (!form) return;
  form.hidden = !is;
  document.getElementById("refusal").textContent = why;
  if (is && !form.contains(document.activeElement)) document.getElementById("token").focus();
}

document.getElementById("ask")?.addEventListener("submit", event => {
  event.preventDefault();
  const field = document.getElementById("token");
  token = field.value.trim();
  field.value = "";
  for (const done of waiting.splice(0)) done();
});
