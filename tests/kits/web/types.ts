// What a user writes, checked against mvgateway.d.ts by tsc at its strictest; what is wrong must be told.

import {
  BackgroundSubscriber, Entities, GatewayRefused, Publisher, Replay, Subscriber, decode, encodeFrame,
  type Change, type Mark, type Place, type Welcome,
} from "mvgateway";

const abort = new AbortController();

export async function follows(): Promise<number> {
  const sub = new Subscriber("https://127.0.0.1:4433", "arena", {
    certificateHash: async (address: string) => `${address}/certificate.sha256`, token: () => "text", query: { budget_kbps: 256 },
  });
  const off = sub.on("frame", (frame, keys) => { const first: Uint8Array | undefined = sub.state.get(keys[0]!); void [frame.tick, first]; }, { signal: abort.signal });
  sub.on("refused", (code, detail, error) => { const where: string | undefined = error.url; void [code.length, detail.length, where]; });
  sub.on("status", status => { if (status === "open") off(); });
  // @ts-expect-error there is no such event
  sub.on("opened", () => {});
  // @ts-expect-error nor such a status
  sub.on("status", status => status === "opened");
  const welcome: Welcome = await sub.open({ signal: abort.signal });
  sub.onframe = (frame, changed) => void [frame.records, changed.length];
  sub.focus([1, 2], new Set([0.5, 4]));
  // @ts-expect-error readers publish nothing
  sub.send(new Map());
  return welcome.epoch;
}

export async function publishes(): Promise<Mark> {
  const pub = new Publisher("https://127.0.0.1:4433", "arena", { takeover: true, watchdogMs: 0 });
  await pub.open();
  const tick: number = pub.send(new Map([[1, new Uint8Array(3)], [2, null]]));
  pub.send({ 7: new Uint8Array(1) });
  // @ts-expect-error bytes, no text
  pub.send({ 7: "text" });
  pub.on("changed", records => { for (const [key, data] of records) void [key + 1, data?.length]; });
  return pub.waitDurable(tick, { signal: abort.signal });
}

export async function watches(): Promise<Place> {
  const film = new Replay("https://127.0.0.1:4433", "arena", { from: { mark: "goal" }, speed: "max", paused: true });
  film.on("position", place => void place.at_us);
  await film.open();
  await film.play(-2);
  // @ts-expect-error a moment is a tick, a time or a mark
  await film.seek({ when: "now" });
  return film.seek({ tick: 7, epoch: 1 });
}

export async function stores(): Promise<Change[]> {
  const town = new Entities("https://127.0.0.1:4433", "town", { token: async () => "text" });
  const revision: number = await town.put("chest:7", { gold: 12 }, { tags: ["chest"], createOnly: true });
  const found: Change[] = [];
  for await (const change of town.watch({ since: revision, tag: "chest", signal: abort.signal })) found.push(change);
  const { value, inTransfer }: { value: unknown; inTransfer: boolean } = await town.get("chest:7");
  await town.accept(await town.transfer(["chest:7"], "forest"), { owner: "server-2" });
  void [value, inTransfer];
  return found;
}

const background = new BackgroundSubscriber("https://127.0.0.1:4433", "arena", { everyMs: 16 });
background.on("changed", keys => { for (const key of keys) background.state.get(key)?.byteLength; });
const message = decode(encodeFrame(1, 2, [[1, new Uint8Array(1)]])[0]!);
if ("control" in message) void message.control.type; else void message.records.length;
const why: string = new GatewayRefused("publisher_present", "another publishes").code;
void why;
