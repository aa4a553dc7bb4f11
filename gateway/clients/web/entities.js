// Entities, leases, transfers, inventories and marks over HTTP (docs/ENTITIES.md, docs/API.md).

import { Token } from "./token.js";
import { decode, decodeEntity, readMessages } from "./wire.js";

const TIMEOUT_MS = 30_000, BACKOFF_MIN_MS = 50, BACKOFF_MAX_MS = 2000, ENTITIES_TYPE = "application/vnd.mvgateway.entities";
const KINDS = { variant: "application/vnd.godot.variant", json: "application/json", bytes: "application/octet-stream" };

/** What the gateway answered instead. `code`, `status` and `facts` are its problem document's (RFC 9457). */
export class GatewayError extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? `the gateway answered ${status}`);
    this.name = "GatewayError";
    Object.assign(this, { status, code: problem.code ?? "unknown", detail: this.message, retry: !!problem.retry, facts: problem });
  }
}

/** One gateway over HTTP. `token` as in a session. */
export class Http {
  #token;

  constructor(url, { token = null, signal = null, timeoutMs = TIMEOUT_MS } = {}) {
    this.url = url.replace(/\/$/, "");
    this.signal = signal;
    this.timeoutMs = timeoutMs;
    this.#token = token === null ? null : new Token(token);
  }

  /** The Response; throws GatewayError where it is a refusal, once a fresh token did not help. `timeoutMs` 0: none. */
  async request(method, path, { headers = {}, body, signal = null, timeoutMs = this.timeoutMs } = {}) {
    const signals = [this.signal, signal, timeoutMs ? AbortSignal.timeout(timeoutMs) : null].filter(Boolean);
    const given = signals.length > 1 ? AbortSignal.any(signals) : signals[0];
    for (let again = false; ; again = true) {
      const token = await this.#token?.current();
      const answer = await fetch(this.url + path, {
        method, body, signal: given, cache: "no-store", headers: { ...headers, ...(token ? { authorization: `Bearer ${token}` } : {}) },
      });
      if (answer.ok || answer.status === 304) return answer;
      if ((answer.status === 401 || answer.status === 403) && this.#token?.renews && !again) { this.#token.due = 0; continue; }
      throw new GatewayError(answer.status, await answer.json().catch(() => ({})));
    }
  }

  async json(method, path, members, options = {}) {
    const headers = { accept: "application/json", ...options.headers };
    if (members !== undefined) headers["content-type"] = "application/json";
    const answer = await this.request(method, path, { ...options, headers, body: members === undefined ? undefined : JSON.stringify(members) });
    const text = await answer.text();
    return text ? JSON.parse(text) : {};
  }
}

/** The entities of one world, or with `inventory: true` the items of one owner. A state is a Uint8Array (kept as bytes) or
 *  anything JSON; a Godot Variant is given and got as bytes, with `kind: "variant"`. */
export class Entities {
  constructor(url, name, { inventory = false, lease = null, ...options } = {}) {
    this.name = name;
    this.lease = lease;
    this.http = new Http(url, options);
    this.world = `/v1/worlds/${encodeURIComponent(name)}`;
    this.base = inventory ? `/v1/inventories/${encodeURIComponent(name)}/items` : `${this.world}/entities`;
  }

  /** Resolves with the new revision. `ifMatch`: the revision that must stand; `createOnly`: none may. */
  async put(id, state, { kind = null, className, owner, tags, key, quantity, ifMatch, createOnly = false, signal } = {}) {
    const isBytes = state instanceof Uint8Array, chosen = kind ?? (isBytes ? "bytes" : "json");
    const headers = { "content-type": KINDS[chosen], ...this.#lease(), ...condition(ifMatch, createOnly) };
    for (const [name, value] of Object.entries({ class: className, owner, tags: tags?.map(encodeURIComponent).join(","), key, quantity })) {
      if (value !== undefined) headers[`x-entity-${name}`] = name === "tags" ? value : encodeURIComponent(value);
    }
    const body = isBytes ? state : JSON.stringify(state);
    return (await (await this.http.request("PUT", this.#path(id), { headers, body, signal })).json()).revision;
  }

  /** Resolves with {id, kind, state, value, revision, class, owner, tags, key, quantity, inTransfer}. */
  async get(id, { at, signal } = {}) {
    const query = at === undefined ? "" : `?${new URLSearchParams({ at })}`;
    const answer = await this.http.request("GET", this.#path(id) + query, { signal });
    return ofHeaders(id, answer.headers, new Uint8Array(await answer.arrayBuffer()));
  }

  /** Change `class`, `owner` or `tags`. */
  async patch(id, members) { return (await this.#json("PATCH", this.#path(id), members)).revision; }

  async delete(id, { ifMatch } = {}) {
    return (await (await this.http.request("DELETE", this.#path(id), { headers: { ...this.#lease(), ...condition(ifMatch) } })).json()).revision;
  }

  /** All in one commit or none: [{op, id, kind, state, …}]; a state that is a Uint8Array travels as base64. */
  async batch(operations) {
    const told = operations.map(({ state, ...rest }) =>
      state instanceof Uint8Array ? { ...rest, kind: rest.kind ?? "bytes", state_base64: base64(state) } : state === undefined ? rest : { ...rest, kind: rest.kind ?? "json", state });
    return (await this.#json("POST", `${this.base}:batch`, { operations: told })).results;
  }

  /** One page: {entities, next, revision}. `wanted`: class, owner, tag, prefix, after, limit, state. */
  list(wanted = {}) { return this.#json("GET", `${this.base}?${new URLSearchParams(wanted)}`); }

  /** Every entity, streamed: a cold start. */
  async *all(wanted = {}, { signal } = {}) {
    for await (const message of this.#messages("", wanted, signal)) if (message.entity) yield message.entity;
  }

  /** Changes as they commit: {id, revision, entity} (null: gone, `movedTo` says where), {reset: true}: forget all. Connects
   *  again by itself, and nothing is missed. Ends with `signal`. */
  async *watch({ since, signal, ...wanted } = {}) {
    for (let wait = BACKOFF_MIN_MS; !signal?.aborted; wait = Math.min(2 * wait, BACKOFF_MAX_MS)) {
      try {
        for await (const { entity, head, control } of this.#messages("/live", { ...wanted, ...(since === undefined ? {} : { since }) }, signal)) {
          wait = BACKOFF_MIN_MS;
          if (head) yield head.op === "delete" ? { id: head.id, revision: head.revision, entity: null, movedTo: head.moved_to ?? null } : { id: head.id, revision: head.revision, entity };
          else if (control.type === "bye") break;
          else if (control.revision !== undefined) {
            since = control.revision;
            if (control.type === "reset") yield { id: "", revision: since, entity: null, reset: true };
          }
        }
      } catch (error) {
        if (signal?.aborted) return;
        if (error instanceof GatewayError && error.status < 500) throw error;
      }
      await new Promise(done => setTimeout(done, wait));
    }
  }

  /** The live record `key` becomes the entity's state and leaves the world. */
  hibernate(id, key, members = {}) { return this.#json("POST", `${this.#path(id)}:hibernate`, { key, ...members }); }
  /** The reverse: {id, key, epoch, tick}. */
  wake(id, key) { return this.#json("POST", `${this.#path(id)}:wake`, key === undefined ? {} : { key }); }

  /** Take an owner's lease: from now on we write in its name. Renew it every second or so. */
  async acquire(owner, { takeover = false } = {}) {
    this.lease = (await this.#json("POST", `${this.world}/leases`, { owner, takeover })).lease;
    return this.lease;
  }
  async renew(owner) { await this.#json("PUT", `${this.world}/leases/${encodeURIComponent(owner)}`, {}); }
  async release(owner) { await this.#json("DELETE", `${this.world}/leases/${encodeURIComponent(owner)}`); this.lease = null; }

  /** Offer entities to another world; resolves with the ticket. */
  async transfer(ids, to, { expiresMs = 5000 } = {}) {
    return (await this.#json("POST", "/v1/transfers", { entities: [].concat(ids), from: this.name, to, expires_ms: expiresMs })).ticket;
  }
  accept(ticket, { owner } = {}) { return this.#json("POST", `/v1/transfers/${encodeURIComponent(ticket)}:accept`, owner === undefined ? {} : { owner }); }
  cancel(ticket) { return this.#json("POST", `/v1/transfers/${encodeURIComponent(ticket)}:cancel`, {}); }
  transferRecord(ticket) { return this.#json("GET", `/v1/transfers/${encodeURIComponent(ticket)}`); }

  /** Move items between two owners, all or none: [{item, from, to, quantity}]. */
  async trade(moves, expect = []) { return (await this.#json("POST", "/v1/inventories:trade", { moves, expect })).items; }

  marks() { return this.#json("GET", `${this.world}/marks`); }
  /** Name a moment of the world, now if no `tick` is given. */
  mark(name, { tick, epoch, data } = {}) { return this.#json("POST", `${this.world}/marks`, { name, ...(tick === undefined ? {} : { tick }), ...(epoch === undefined ? {} : { epoch }), ...(data === undefined ? {} : { data }) }); }

  #path(id) { return `${this.base}/${encodeURIComponent(id)}`; }
  #lease() { return this.lease ? { "x-owner-lease": this.lease } : {}; }
  #json(method, path, members) { return this.http.json(method, path, members, { headers: this.#lease() }); }

  async *#messages(path, wanted, signal) {
    const query = new URLSearchParams(wanted).toString(), own = new AbortController();
    const given = signal ? AbortSignal.any([signal, own.signal]) : own.signal;
    const answer = await this.http.request("GET", this.base + path + (query ? `?${query}` : ""), { headers: { accept: ENTITIES_TYPE }, signal: given, timeoutMs: 0 });
    const held = [];
    let wake = () => {}, over = false, failed = null;
    readMessages(answer.body, bytes => { held.push(bytes); wake(); })
      .catch(error => { failed = error; }).finally(() => { over = true; wake(); });
    try {
      for (;;) {
        while (held.length) yield told(held.shift());
        if (failed) throw failed;
        if (over) return;
        await new Promise(done => { wake = done; if (held.length || over) done(); });
      }
    } finally { own.abort(); }
  }
}

function told(bytes) {
  if (bytes[0] === 16) {
    const { control } = decode(bytes);
    if (control.type === "error") throw new GatewayError(control.code === "store_unavailable" ? 503 : 400, { code: control.code, detail: control.message });
    return { control };
  }
  const { head, state } = decodeEntity(bytes);
  return { head, entity: entityOf(head, state) };
}

function entityOf(head, state) {
  const kind = head.kind ?? "bytes";
  return {
    id: head.id, kind, state, revision: head.revision, class: head.class ?? "", owner: head.owner ?? "", tags: head.tags ?? [], key: head.key ?? null,
    quantity: head.quantity ?? 1, inTransfer: !!head.in_transfer,
    get value() { return kind === "json" ? JSON.parse(new TextDecoder().decode(state)) : state; },
  };
}

function ofHeaders(id, headers, state) {
  const plain = (headers.get("content-type") ?? "").split(";")[0], text = name => decodeURIComponent(headers.get(`x-entity-${name}`) ?? "");
  return entityOf({
    id, kind: Object.keys(KINDS).find(kind => KINDS[kind] === plain) ?? "bytes", revision: Number((headers.get("etag") ?? "").replaceAll('"', "")),
    class: text("class"), owner: text("owner"), tags: (headers.get("x-entity-tags") ?? "").split(",").filter(Boolean).map(decodeURIComponent),
    key: headers.has("x-entity-key") ? Number(headers.get("x-entity-key")) : null, quantity: Number(headers.get("x-entity-quantity") ?? 1),
  }, state);
}

const condition = (ifMatch, createOnly) => (ifMatch !== undefined ? { "if-match": `"${ifMatch}"` } : createOnly ? { "if-none-match": "*" } : {});

function base64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}
