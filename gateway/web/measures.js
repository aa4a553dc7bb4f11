// What GET /metrics tells of worlds and of the store, as far as the list of worlds shows it. Source: docs/METRICS.md.

const LINE = /^mvgateway_(readers|world_events_total|journal_commit_failures_total|store_bytes|store_free_bytes)(?:\{(.*)\})? (\S+)$/gm;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

export class Measures {
  store = { used: null, free: null };
  #readers = new Map();   // world -> [transport, count] of each that has any
  #lost = new Map();      // world -> {count, at, rate}: messages lost on their way, a second
  #failed = new Map();    // world -> commits that failed

  /** An answer of /metrics, at so many milliseconds. */
  take(text, now) {
    this.#readers.clear();
    for (const [, name, labels = "", number] of text.matchAll(LINE)) {
      const { world, transport, what } = Object.fromEntries([...labels.matchAll(LABEL)].map(([, key, value]) => [key, value])), value = Number(number);
      if (name === "store_bytes") this.store.used = value;
      else if (name === "store_free_bytes") this.store.free = value;
      else if (name === "journal_commit_failures_total") this.#failed.set(world, value);
      else if (name === "readers") { if (value) this.#readers.set(world, [...this.#readers.get(world) ?? [], [transport, value]]); }
      else if (what === "lost") this.#loses(world, value, now);
    }
    for (const [world, { at }] of this.#lost) if (at !== now) this.#lost.delete(world);
  }

  #loses(world, count, now) {
    const before = this.#lost.get(world);
    this.#lost.set(world, { count, at: now, rate: before && count >= before.count ? (count - before.count) * 1000 / Math.max(1, now - before.at) : 0 });
  }

  /** As text: "2 webtransport, 1 websocket"; "" where nobody reads, or nothing is known. */
  readers(world) { return (this.#readers.get(world) ?? []).map(([transport, count]) => `${count} ${transport}`).join(", "); }

  /** Messages a second that were lost on their way to readers; null where nothing is known. */
  lost(world) { return this.#lost.get(world)?.rate ?? null; }

  /** Commits of a world that failed and were tried again. */
  failed(world) { return this.#failed.get(world) ?? 0; }
}

/** A number of bytes as a person reads it. */
export function bytes(count) {
  const units = ["bytes", "KB", "MB", "GB", "TB"], power = count > 0 ? Math.min(units.length - 1, Math.floor(Math.log10(count) / 3)) : 0;
  return `${(count / 1000 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
}
