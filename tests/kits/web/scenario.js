// What the two servers and the player of the shared scenario do, each with a connection of its own, in one page.
// `kit` is the web kit's module, `scene` what the test gave: {url, options}.

const { url, options } = scene;
const text = words => new TextEncoder().encode(words);
const hex = bytes => [...bytes].map(byte => byte.toString(16).padStart(2, "0")).join("");
const stateOf = entries => Object.fromEntries([...entries].map(([key, data]) => [key, hex(data)]));
const pause = ms => new Promise(done => setTimeout(done, ms));

async function until(holds, seconds = 60) {
  for (const end = performance.now() + 1000 * seconds; performance.now() < end; await pause(20)) if (holds()) return;
  throw new Error(`never came true: ${holds}`);
}

function place(x, tick) {
  const bytes = new Uint8Array(12), view = new DataView(bytes.buffer);
  view.setFloat32(0, x, true);
  view.setFloat32(8, tick, true);
  return bytes;
}

async function walk(server, steps) {
  for (let at = 0; at < steps; at++) { server.send(new Map([[10, place(at, server.tick)]])); await pause(16); }
}

window.play = {
  refused: [],
  moved: [],

  async begin() {
    const session = (Class, world, more = {}) => {
      const made = new Class(url, world, { ...options, ...more });
      made.on("refused", (code, detail) => this.refused.push([world, code, detail]));
      return made;
    };
    this.session = session;
    this.forest = session(kit.Publisher, "forest");
    await this.forest.open();
    this.forest.send(new Map([[2, text("a tree")]]));
    this.town = session(kit.Publisher, "town");
    await this.town.open();
    this.town.send(new Map([[1, text("the square")], [10, place(0, 0)]]));
    this.entities = new kit.Entities(url, "town");
    await this.entities.put("player", { name: "ann" }, { key: 10 });
    this.player = session(kit.Subscriber, "town", { query: { follow: "player" } });
    this.player.on("moved", said => this.moved.push(said.world));
    await this.player.open();
    await until(() => this.player.state.get(10));
    return this.player.link.kind;
  },

  async walkOver() {
    await walk(this.town, 60);
    await this.town.waitDurable();
    await this.entities.hibernate("player", 10);
    await until(() => !this.town.live.has(10));
    const ticket = await this.entities.transfer(["player"], "forest"), forest = new kit.Entities(url, "forest");
    await forest.accept(ticket);
    await forest.wake("player", 10);
    await until(() => this.forest.live.has(10));
    const woken = new DataView(this.forest.live.get(10).buffer).getFloat32(0, true);
    await walk(this.forest, 60);
    await this.forest.waitDurable();
    await until(() => this.player.world === "forest" && this.player.state.get(10) && !this.player.state.get(1));
    return woken;
  },

  async trade() {
    const of = owner => new kit.Entities(url, owner, { inventory: true }), ann = of("ann"), bob = of("bob");
    await ann.put("gold", {}, { quantity: 10 });
    await bob.put("sword", { edge: 3 });
    await ann.trade([{ item: "gold", from: "ann", to: "bob", quantity: 7 }, { item: "sword", from: "bob", to: "ann" }]);
    return [(await ann.get("gold")).quantity, (await bob.get("gold")).quantity, (await ann.get("sword")).value];
  },

  walkWhileAway() { return walk(this.forest, 30); },

  async end() {
    await walk(this.forest, 30);
    this.forest.send(new Map([[3, text("after")], [2, null]]));
    this.town.send(new Map([[3, text("after")]]));
    await Promise.all([this.forest.waitDurable(), this.town.waitDurable()]);
    const wanted = JSON.stringify(stateOf(this.forest.live)), has = reader => stateOf([...reader.state.keys()].map(key => [key, reader.state.get(key)]));
    await until(() => JSON.stringify(has(this.player)) === wanted);
    const film = this.session(kit.Replay, "forest", { paused: true });
    await film.open();
    await film.play("max");
    await until(() => JSON.stringify(has(film)) === wanted);
    return { town: stateOf(this.town.live), forest: stateOf(this.forest.live), player: has(this.player), film: has(film) };
  },
};
