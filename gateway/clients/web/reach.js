// Which transport: WebTransport first, WebSocket beside it where UDP gets no answer within a second.

import { attempts, openWebSocket, openWebTransport } from "./link.js";

const UDP_PATIENCE_MS = 1000, HASH_MS = 3000;

/** Whether a session at `address` can be had by WebTransport here. */
export const hasUdp = address => typeof WebTransport !== "undefined" && /^https:/.test(address);

/** Resolves with a Link that is open and has said nothing. `kind`: auto, webtransport or websocket; `pause(ms)` waits. */
export async function reach({ address, path, kind, certificateHash, take, signal, pause }) {
  const tcp = () => openWebSocket(address + path, take, signal);
  const udp = async own => openWebTransport(address + path, await hashOf(certificateHash, address), take, own);
  if (kind === "websocket") return tcp();
  if (!hasUdp(address)) {
    if (kind === "webtransport") throw new Error("this browser, or an http:// address, has no WebTransport");
    return tcp();
  }
  if (kind === "webtransport") {
    await pause(attempts.waitMs);
    return udp(signal);
  }
  return attempts.waitMs > 0 ? tcp() : either(udp, tcp, signal);
}

/** Whichever opens first; the other one is let go. */
async function either(udp, tcp, signal) {
  const own = new AbortController();
  signal?.addEventListener("abort", () => own.abort(), { once: true });
  const trying = udp(own.signal);
  trying.catch(() => {});
  const first = await Promise.race([trying.catch(() => null), new Promise(done => setTimeout(done, UDP_PATIENCE_MS))]);
  if (first) return first;
  const other = tcp();
  const link = await Promise.any([trying, other]);
  for (const one of [trying, other]) one.then(late => { if (late !== link) late.drop(); }, () => {});
  if (link.kind === "websocket") own.abort();
  return link;
}

/** The certificate's hash, asked for anew each time where it can be: a gateway renews its certificate. A hash that is
 *  written down is asked for after a failure, by TLS that the browser trusts, and is used where that has no answer. */
async function hashOf(given, address) {
  if (typeof given === "function") return given(address);
  if (!given) return null;
  if (/^(https?:\/)?\//.test(given)) return fetchHash(given);
  if (!attempts.count) return given;
  try { return await fetchHash(`${address}/certificate.sha256`); } catch { return given; }
}

async function fetchHash(url) {
  const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(HASH_MS) });
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}`);
  return (await answer.text()).trim();
}
