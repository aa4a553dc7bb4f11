// The film room: a world's recording, played, scrubbed, marked and cut.

import { GatewayRefused, Replay } from "/kit/mvgateway.js";
import { ask, heldToken, told } from "./ask.js";
import { takesFilms } from "./drop.js";
import { Layout } from "./layout.js";
import { clock, facts, keyed, leaves, tell } from "./parts.js";
import { Plot } from "./plot.js";
import { showRecord, showTable } from "./record.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";

const box = id => document.getElementById(id), LINK_MS = 400, LINE_MS = 5000;
const [name, at = "", speedText = ""] = location.hash.slice(1).split("/").map(decodeURIComponent);
const path = `/v1/worlds/${encodeURIComponent(name)}`;
const stage = new Stage(box("stage")), line = new Timeline(box("time"));
const plot = new Plot(box("plot"), { span: Infinity, named: tick => `tick ${tick}` });
let film = null, playing = false, tables = false, wanted = null, seeking = false;

const say = text => tell(box("trouble"), text);

/** `#world/tick/speed`, a tick of another epoch than the newest as EPOCH:TICK. */
function start() {
  const found = /^(?:(\d+):)?(\d+)$/.exec(at);
  if (!found) return {};
  return { tick: Number(found[2]), ...(found[1] ? { epoch: Number(found[1]) } : {}) };
}

const speed = () => Number(box("speed").value) * (box("reverse").getAttribute("aria-pressed") === "true" ? -1 : 1);

async function command(run) {
  try { say(""); return await run(); } catch (error) { say(error.message); return null; }
}

function place(now) {
  if (!now) return;
  const { epoch, tick } = now, us = now.at_us || line.timeOf(epoch, tick);
  line.move(us);
  facts(box("facts"), [["epoch, tick", `${epoch}, ${tick}`], ["time", clock(us)], ["records", film.state.size], ["speed", playing ? `${speed()} ×` : "stands"], ["pictures", stage.drawn], ["a picture takes", `${stage.tookMs.toFixed(1)} ms`]]);
  remember(epoch, tick);
}

let remembered = 0;
function remember(epoch, tick) {
  if (performance.now() - remembered < LINK_MS) return;
  remembered = performance.now();
  history.replaceState(null, "", `#${encodeURIComponent(name)}/${epoch}:${tick}/${box("speed").value}`);
}

function plays(is) {
  playing = is;
  box("different").setAttribute("aria-live", is ? "off" : "polite"); // nobody can listen to it by the frame
  box("play").textContent = is ? "pause" : "play";
}

const play = () => command(async () => { await film.play(speed()); plays(true); });
const pause = () => command(async () => { const now = await film.pause(); plays(false); place(now); });
const step = n => command(async () => { plays(false); place(await film.step(n)); });

/** The newest wish alone: while one is on its way, the ones between are left out. */
async function seek(to) {
  wanted = to;
  if (seeking) return;
  seeking = true;
  while (wanted) {
    const next = wanted;
    wanted = null;
    stage.forgetTrails();
    plot.forget();
    await command(async () => { const now = await film.seek(next); if (!wanted) place({ ...now }); });
  }
  seeking = false;
}

/** To the microsecond: by the millisecond the end of a recording would be the tick before its last. */
const iso = us => `${new Date(Math.floor(us / 1000)).toISOString().slice(0, -1)}${String(Math.floor(us) % 1000).padStart(3, "0")}Z`;

async function look() {
  const [time, { marks }, { gaps }] = await Promise.all([told(`${path}/timeline?spans=1024`), told(`${path}/marks`), told(`${path}/gaps`)]);
  line.show(time, marks, gaps);
  const places = new Map(marks.map(mark => [mark.name, `${mark.name} (${mark.epoch}:${mark.tick})`]));
  keyed(box("marks"), [...places.keys()], called => {
    const item = document.createElement("li"), button = document.createElement("button");
    button.onclick = () => seek({ mark: called });
    item.append(button);
    return item;
  }, (item, called) => tell(item.firstChild, places.get(called)));
  box("span").textContent = time.from_us ? `${clock(time.from_us)} to ${clock(time.to_us)}` : "nothing is recorded yet";
}

/** The picture as it is now, as a thing to draw beside later ones. */
function frozen() {
  const records = new Map([...film.state.keys()].map(key => [key, film.state.get(key)]));
  return { keys: () => records.keys(), get: key => records.get(key), size: records.size, epoch: film.state.epoch, tick: film.state.tick };
}

function compare() {
  stage.ghost = stage.ghost ? null : frozen();
  box("compare").setAttribute("aria-pressed", String(Boolean(stage.ghost)));
  different();
  stage.refresh();
}

const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);

function different() {
  const ghost = stage.ghost;
  box("different").hidden = !ghost;
  if (!ghost) return;
  const here = [...film.state.keys()], come = here.filter(key => !ghost.get(key)), gone = [...ghost.keys()].filter(key => !film.state.get(key));
  const changed = here.filter(key => ghost.get(key) && !same(ghost.get(key), film.state.get(key)));
  tell(box("different"), `against ${ghost.epoch}:${ghost.tick}: ${changed.length} changed, ${come.length} new, ${gone.length} gone`);
}

const cutAt = { from: null, to: null };
function cut(which) {
  const now = film.place;
  if (!now) return;
  cutAt[which] = { epoch: now.epoch, tick: now.tick };
  box(which).textContent = `${which} ${now.epoch}:${now.tick}`;
  const { from, to } = cutAt, whole = from && to && from.epoch === to.epoch && from.tick <= to.tick;
  box("save").hidden = box("as").hidden = !whole;
  box("cutwhy").textContent = from && to && !whole ? "a clip begins before it ends, in one epoch" : "";
}

async function save() {
  const { from, to } = cutAt, form = box("form").value, span = `epoch=${from.epoch}&from=${from.tick}&to=${to.tick}`;
  const answer = await ask(form === "frames" ? `${path}/frames?${span}` : `${path}/clip?format=${form}&${span}`);
  if (!answer.ok) { say((await answer.json()).detail); return; }
  if (form !== "frames") { download([await answer.blob()], /filename="(.+)"/.exec(answer.headers.get("content-disposition"))[1]); return; }
  const state = await ask(`${path}/frames?epoch=${from.epoch}&tick=${from.tick}`); // a clip begins with the whole state
  download([state.ok ? await state.blob() : new Blob(), await answer.blob()], `${name}-${from.epoch}-${from.tick}-${to.tick}.frames`);
}

function download(parts, called) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts, { type: "application/octet-stream" }));
  link.download = called;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function mark() {
  const now = film.place, called = box("markname").value.trim();
  if (!now || !called) { say(called ? "nothing is shown yet" : "a mark has a name"); return; }
  await command(async () => {
    await told(`${path}/marks`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ name: called, epoch: now.epoch, tick: now.tick }) });
    box("markname").value = "";
    await look();
  });
}

let plottedEpoch = null;
function plotted() {
  if (film.state.epoch !== plottedEpoch) { plottedEpoch = film.state.epoch; plot.forget(); } // ticks begin anew
  plot.take(film.state.tick, stage.selected, stage.selected === null ? null : film.state.get(stage.selected));
}

function tabled() {
  if (tables && film) showTable(box("records"), film.state, stage.layout, stage.selected, key => stage.select(key));
  const record = stage.selected === null ? null : film?.state.get(stage.selected);
  box("record").hidden = !record;
  showRecord(box("values"), stage.selected, record, stage.layout);
}

async function open() {
  const from = start();
  film = new Replay(location.origin, name, { token: heldToken() && heldToken, certificateHash: "/certificate.sha256", paused: true, from });
  stage.source = { keys: () => film.state.keys(), get: key => film.state.get(key) };
  film.onframe = () => { stage.refresh(); different(); plotted(); };
  film.on("frame", () => { if (!seeking) place({ epoch: film.place.epoch, tick: film.place.tick }); });
  film.on("position", now => { if (now.ended) { plays(false); place(now); } });
  film.on("gap", gap => say(`nothing is recorded of ${gap.from === gap.to ? `tick ${gap.from}` : `ticks ${gap.from} to ${gap.to}`} of epoch ${gap.epoch} (${gap.reason})`));
  film.on("refused", (code, detail) => say(detail));
  film.on("command-refused", error => say(error.message));
  film.on("close", reason => say(`the connection ended (${reason}); what is shown stands still until it is back`));
  film.on("open", () => say(""));
  await film.open();
}

async function main() {
  takesFilms(say);
  if (!name) { location.replace("/"); return; }
  document.title = `${name}, film · mvgateway`;
  box("world").textContent = name;
  box("live").href = `/map#${encodeURIComponent(name)}`;
  if (speedText && [...box("speed").options].some(option => option.value === speedText)) box("speed").value = speedText;
  const recording = await told(`${path}/recording`);
  stage.layout = recording.layout ? new Layout(recording.layout) : null;
  plot.show(stage.layout);
  await look();
  try { await open(); } catch (error) { if (!(error instanceof GatewayRefused)) throw error; say(error.detail); return; }
  box("ready").value = "1";
  setInterval(() => look().catch(() => {}), LINE_MS);
  setInterval(tabled, 500);
}

box("play").onclick = () => playing ? pause() : play();
box("back").onclick = () => step(-1);
box("on").onclick = () => step(1);
box("speed").onchange = () => { if (playing) play(); };
box("reverse").onclick = event => { const on = event.currentTarget.getAttribute("aria-pressed") !== "true"; event.currentTarget.setAttribute("aria-pressed", String(on)); if (playing) play(); };
box("compare").onclick = compare;
box("from").onclick = () => cut("from");
box("to").onclick = () => cut("to");
box("save").onclick = () => command(save);
box("mark").onsubmit = event => { event.preventDefault(); mark(); };
box("jump").onsubmit = event => {
  event.preventDefault();
  const text = box("moment").value.trim(), tick = /^(?:(\d+):)?(\d+)$/.exec(text);
  seek(tick ? { tick: Number(tick[2]), ...(tick[1] ? { epoch: Number(tick[1]) } : {}) } : { at: text });
};
box("fit").onclick = () => stage.fit();
box("trails").onclick = event => { stage.trails = !stage.trails; event.currentTarget.setAttribute("aria-pressed", String(stage.trails)); stage.forgetTrails(); stage.refresh(); };
box("tables").onclick = event => { tables = !tables; event.currentTarget.setAttribute("aria-pressed", String(tables)); box("list").hidden = !tables; tabled(); };
line.onseek = us => { plays(false); seek({ at: iso(us) }); };
stage.onselect = () => { tabled(); if (film) plotted(); };
addEventListener("keydown", event => {
  leaves(event, stage, box("tables"));
  if (event.target.matches("input, select") || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === " ") { if (event.target.matches("button, a")) return; event.preventDefault(); box("play").click(); }
  else if (event.key === ",") step(-1);
  else if (event.key === ".") step(1);
});
addEventListener("hashchange", () => { const [world, moment] = location.hash.slice(1).split("/").map(decodeURIComponent); if (world !== name || moment !== `${film?.place?.epoch}:${film?.place?.tick}`) location.reload(); });
Object.assign(window, { stage, line, plot, film: () => film, iso });
main().catch(error => say(error.message));
