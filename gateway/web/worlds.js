// The front page: every world, and how it does.

import { ask, told } from "./ask.js";
import { takesFilms } from "./drop.js";
import { Heard, PATIENCE_MS } from "./heard.js";
import { Measures, bytes } from "./measures.js";
import { cell, keyed, spark, tell, text } from "./parts.js";

const PAGE = 200, KEPT = 60, LATE_TICKS = 30, LOST_PER_S = 5, FULL_SHARE = 0.05;
const seen = new Map();          // world -> its rates of the last minute, frames a second
const box = id => document.getElementById(id);
const measures = new Measures(), heard = new Heard(box("heard"), document.querySelector(".scroll"), box("disk"));
let pages = [""], prefix = "";

function show(world) {
  const row = document.createElement("tr");
  const name = document.createElement("td"), link = document.createElement("a");
  link.textContent = world.world;
  link.href = `/map#${encodeURIComponent(world.world)}`;
  name.append(link);
  row.append(name);
  if (world.error) { cell(row, world.error, "late").colSpan = 9; return row; }
  if (!world.open) { cell(row, "not open", "off").colSpan = 9; return withFilm(row, world.world); }
  const rates = [...(seen.get(world.world) ?? []), world.rates?.frames_per_s ?? 0].slice(-KEPT);
  seen.set(world.world, rates);
  cell(row, world.publisher ?? "none", world.publisher ? "on" : "off");
  const by = measures.readers(world.world), lost = measures.lost(world.world);
  cell(row, by ? `${world.readers} (${by})` : world.readers); cell(row, world.records); cell(row, world.epoch); cell(row, world.tick);
  cell(row, rates.at(-1).toFixed(1));
  row.insertCell().append(spark(rates));
  const durable = world.durable;
  const lag = durable && durable.epoch === world.epoch ? world.tick - durable.tick : null;
  cell(row, lag === null ? null : `${lag} ticks`, lag > LATE_TICKS ? "late" : "");
  const failed = measures.failed(world.world);
  cell(row, lost === null ? null : `${lost.toFixed(1)}/s${failed ? `, ${failed} commits failed` : ""}`, lost > LOST_PER_S || failed ? "late" : "");
  return withFilm(row, world.world);
}

/** A row that is there gets another's values; its links stay, and with them the focus. */
function renew(row, other) {
  if (row === other) return;
  const haveFilms = [row, other].every(each => each.lastChild.querySelector("a")), end = haveFilms ? -1 : undefined;
  for (const old of [...row.cells].slice(1, end)) old.remove();
  row.cells[0].after(...[...other.cells].slice(1, end));
}

function withFilm(row, world) {
  const link = document.createElement("a");
  link.textContent = "film";
  link.href = `/film#${encodeURIComponent(world)}`;
  link.setAttribute("aria-label", `film room of ${world}`);
  row.insertCell().append(link);
  return row;
}

function trouble(health) {
  const late = (health.late_worlds ?? []).map(w => `${w.world} ${(w.waiting_ms / 1000).toFixed(0)} s${w.why ? `: ${w.why}` : ""}`);
  return [`store ${health.store}`, health.store_failure, ...late.slice(0, 4)].filter(Boolean).join("; ");
}

async function health() {
  const found = await (await ask("/healthz", { quiet: true, patience: PATIENCE_MS })).json();
  box("version").textContent = found.version ?? "";
  const said = found.status === "draining" ? "draining: it stops, takes nobody new, and those who are here are told where to go" : found.status;
  tell(box("status"), found.store === "ok" ? said : `${said}; ${trouble(found)}`);
  box("status").className = found.store === "ok" && found.status === "ok" ? "on" : "late";
}

/** What /metrics tells beside the worlds; nothing where a token does not allow it. */
async function measure() {
  const answer = await ask("/metrics", { quiet: true, patience: PATIENCE_MS });
  if (answer.ok) measures.take(await answer.text(), performance.now());
  const { used, free } = measures.store, isFull = free !== null && free < FULL_SHARE * (free + (used ?? 0));
  box("disk").textContent = free === null ? "" : `store ${bytes(used)}, ${bytes(free)} free on its disk`;
  box("disk").className = isFull ? "late" : "soft";
}

let asked = 0; // an answer that comes after a later question is no answer to it
async function refresh() {
  const mine = ++asked;
  try {
    await health();
    await measure().catch(() => {});
    const query = new URLSearchParams({ limit: PAGE, ...(prefix ? { prefix } : {}), ...(pages.at(-1) ? { after: pages.at(-1) } : {}) });
    const { worlds, next } = await told(`/v1/worlds?${query}`, { patience: PATIENCE_MS });
    if (mine !== asked) return;
    heard.take();
    const rows = new Map(worlds.map(world => [world.world, show(world)]));
    keyed(box("worlds"), [...rows.keys()], name => rows.get(name), (row, name) => renew(row, rows.get(name)));
    box("none").hidden = worlds.length > 0 || pages.length > 1;
    for (const name of seen.keys()) if (seen.size > 2 * PAGE) seen.delete(name); else break;
    box("pages").hidden = pages.length === 1 && !next;
    const held = document.activeElement;
    box("back").disabled = pages.length === 1;
    box("on").disabled = !next;
    if (held?.disabled) (next ? box("on") : box("back")).focus(); // a button that went out keeps no keyboard
    box("on").onclick = () => { pages.push(next); refresh(); };
  } catch (error) {
    if (mine !== asked) return;
    heard.miss();
    tell(box("status"), error.status ? error.message : "not reachable");
    box("status").className = "late";
  }
}

takesFilms(said => tell(box("trouble"), said));
document.addEventListener("asked", () => { box("worlds").replaceChildren(); heard.forget(); });
box("back").onclick = () => { pages.pop(); refresh(); };
box("prefix").oninput = event => { prefix = event.target.value.trim(); pages = [""]; refresh(); };
ask("/certificate.sha256", { quiet: true }).then(r => r.ok ? r.text() : "").then(t => { box("certificate").textContent = text(t.trim() || null); }).catch(() => {});

(async () => { for (;;) { await refresh(); await new Promise(done => setTimeout(done, 1000)); } })();
