// One world, live: its records as they move, its readers and its health.

import { GatewayRefused, Subscriber } from "/kit/mvgateway.js";
import { heldToken, told } from "./ask.js";
import { Heard, PATIENCE_MS } from "./heard.js";
import { Layout } from "./layout.js";
import { facts, leaves, tell } from "./parts.js";
import { Plot } from "./plot.js";
import { showRecord, showTable } from "./record.js";
import { Stage } from "./stage.js";

const box = id => document.getElementById(id), EVENTS_MAX = 50, LATE_TICKS = 30, LEAVING = /stopping/;
const world = decodeURIComponent(location.hash.slice(1).split("/")[0]);
const PLOTTED_S = 60;
const stage = new Stage(box("stage"));
const plot = new Plot(box("plot"), { span: PLOTTED_S, named: seconds => new Date(performance.timeOrigin + seconds * 1000).toLocaleTimeString() });
const heard = new Heard(box("heard"), box("stage"), box("facts"), box("list"), box("plot"), box("record"));
const still = matchMedia("(prefers-reduced-motion: reduce)");
let reader = null, tables = false;

stage.glides = !still.matches;
still.onchange = () => { stage.glides = !still.matches; };

function happened(what, late = false) {
  const item = document.createElement("li");
  item.textContent = `${new Date().toLocaleTimeString()} ${what}`;
  if (late) item.className = "late";
  box("events").prepend(item);
  while (box("events").children.length > EVENTS_MAX) box("events").lastChild.remove();
}

function sign(text) {
  tell(box("sign"), text);
  box("sign").hidden = !text;
}

async function follow() {
  reader = new Subscriber(location.origin, world, { token: heldToken() && heldToken, certificateHash: "/certificate.sha256" });
  stage.source = { keys: () => reader.state.keys(), get: key => reader.state.get(key) };
  reader.on("open", (welcome, transport) => { sign(""); happened(`follows by ${transport}, epoch ${welcome.epoch}`); });
  reader.on("close", reason => happened(`connection ended: ${reason}`, true));
  reader.on("bye", said => {
    happened(`the gateway says bye: ${said.reason}`, true);
    if (LEAVING.test(said.reason)) sign("the gateway is draining: what is shown stands still until another one, or this one again, has the world");
  });
  reader.on("refused", (code, detail) => happened(detail, true));
  reader.onframe = () => { stage.refresh(); plotted(); };
  try { await reader.open(); } catch (error) {
    if (!(error instanceof GatewayRefused)) throw error;
    happened(error.detail, true);
  }
}

const ages = [];
let ticks = 0, newest = -1;
function aged(frame) {
  if (frame.tick !== newest) { newest = frame.tick; ticks++; } // a frame may come in several messages
  if (!frame.sentAt) return;
  ages.push(Date.now() - frame.sentAt / 1000);
  if (ages.length > 600) ages.splice(0, 300);
}

function age() {
  if (!ages.length) return null;
  const sorted = ages.splice(0).sort((a, b) => a - b), p = share => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  return `${p(0.5).toFixed(0)} / ${p(0.99).toFixed(0)} ms`;
}

/** The world's own layout among those to choose from. */
function offer(layout) {
  const name = layout ? layout.name || "its own" : "", options = [...box("layouts").options];
  if (!options.some(option => option.value === name)) box("layouts").add(Object.assign(new Option(name, name), { disabled: true }));
  box("layouts").value = name;
}

let layoutText = "", frames = 0, drawn = 0, at = performance.now();
async function look() {
  const facts_ = await told(`/v1/worlds/${encodeURIComponent(world)}`, { patience: PATIENCE_MS }), text = JSON.stringify(facts_.layout ?? null);
  if (text !== layoutText) {
    layoutText = text;
    stage.layout = facts_.layout ? new Layout(facts_.layout) : null;
    offer(facts_.layout);
    plot.show(stage.layout);
    box("unknown").hidden = Boolean(facts_.layout);
    stage.fit();
  }
  const now = performance.now(), seconds = (now - at) / 1000, lag = facts_.durable && facts_.durable.epoch === facts_.epoch ? facts_.tick - facts_.durable.tick : null;
  facts(box("facts"), [
    ["publisher", facts_.publisher ?? "none", facts_.publisher ? "on" : "off"], ["readers", facts_.readers], ["records", facts_.records],
    ["epoch, tick", `${facts_.epoch}, ${facts_.tick}`], ["frames/s", (facts_.rates?.frames_per_s ?? 0).toFixed(1)],
    ["durable lag", lag === null ? null : `${lag} ticks`, lag > LATE_TICKS ? "late" : ""], ["kept", facts_.retention === "ring" ? `the last ${facts_.ring_s} s` : "everything"],
    ["here by", reader?.link?.kind ?? reader?.status], ["frames here/s", ((ticks - frames) / seconds).toFixed(1)],
    ["age p50 / p99", age()], ["pictures/s", ((stage.drawn - drawn) / seconds).toFixed(1)], ["a picture takes", `${stage.tookMs.toFixed(1)} ms`],
  ]);
  [frames, drawn, at] = [ticks, stage.drawn, now];
}

function plotted() {
  plot.take(performance.now() / 1000, stage.selected, stage.selected === null ? null : reader.state.get(stage.selected));
}

function tabled() {
  if (tables) showTable(box("records"), stage.source, stage.layout, stage.selected, key => stage.select(key));
  const record = stage.selected === null ? null : reader.state.get(stage.selected);
  box("record").hidden = !record;
  showRecord(box("values"), stage.selected, record, stage.layout);
}

/** Until there is such a world: a page may be opened before its game server is started. */
async function there() {
  for (;;) {
    try { await told(`/v1/worlds/${encodeURIComponent(world)}`); return; } catch (error) {
      if (error.status !== 404) throw error;
      tell(box("trouble"), error.message);
    }
    await new Promise(done => setTimeout(done, 1000));
  }
}

async function main() {
  if (!world) { location.replace("/"); return; }
  document.title = `${world} · mvgateway`;
  box("world").textContent = world;
  box("film").href = `/film#${encodeURIComponent(world)}`;
  const { layouts } = await told("/v1/layouts");
  for (const name of Object.keys(layouts)) box("layouts").add(new Option(name, name));
  await there(); // asks for a token where one is wanted, before the session does
  await follow();
  reader.on("frame", aged);
  for (;;) {
    try { await look(); heard.take(); tell(box("trouble"), ""); } catch (error) { heard.miss(); tell(box("trouble"), error.status ? error.message : "the gateway is not reachable"); }
    tabled();
    await new Promise(done => setTimeout(done, 1000));
  }
}

box("layouts").onchange = async event => {
  const layout = event.target.value || null;
  try { await told(`/v1/worlds/${encodeURIComponent(world)}`, { method: "PATCH", headers: { "content-type": "application/json" }, body: JSON.stringify({ layout }) }); }
  catch (error) { happened(error.message, true); }
  await look();
};
box("fit").onclick = () => stage.fit();
box("trails").onclick = event => { stage.trails = !stage.trails; event.currentTarget.setAttribute("aria-pressed", String(stage.trails)); stage.forgetTrails(); stage.refresh(); };
box("tables").onclick = event => { tables = !tables; event.currentTarget.setAttribute("aria-pressed", String(tables)); box("list").hidden = !tables; tabled(); };
stage.onselect = () => { tabled(); plotted(); };
addEventListener("keydown", event => leaves(event, stage, box("tables")));
addEventListener("hashchange", () => location.reload());
Object.assign(window, { stage, plot, reader: () => reader });
main().catch(error => { box("trouble").textContent = error.message; });
