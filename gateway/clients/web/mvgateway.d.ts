/** A record's bytes; null removes. */
export type Data = Uint8Array | null;
export type Records = ReadonlyMap<number, Data> | Readonly<Record<number, Data>>;
export type TransportKind = "webtransport" | "websocket";
export type Status = "idle" | "connecting" | "open" | "waiting" | "closed" | "refused";
export type Unsubscribe = () => void;

export interface Mark { epoch: number; tick: number }

export interface Control { type: string; [field: string]: unknown }

export interface Welcome extends Control {
  type: "welcome";
  world: string;
  role: "publish" | "subscribe";
  epoch: number;
  tick: number;
  durable: Mark | null;
  max_datagram: number;
  /** Microseconds since the Unix epoch. */
  server_time: number;
  resume?: string;
  delay_s?: number;
}

export interface Moved extends Control { type: "moved"; world: string; url: string; entity?: string }
export interface Bye extends Control { type: "bye"; reason: string; reconnect_after_ms: number; world?: string; url?: string }
export interface Notice extends Control { type: "notice"; code: string; message: string }

export interface Frame {
  keyframe: boolean;
  repair: boolean;
  ticks: boolean;
  part: number;
  parts: number;
  epoch: number;
  tick: number;
  /** The publisher's clock, microseconds since the Unix epoch. */
  sentAt: number;
  /** [key, bytes or null for removed, the tick that set it]. */
  records: [key: number, data: Data, tick: number][];
}

export interface SessionOptions {
  /** 64 hex digits, those of /certificate.sha256; or a URL that answers them; or a function, given the gateway's address. */
  certificateHash?: string | ((address: string) => string | Promise<string>) | null;
  transport?: "auto" | TransportKind;
  /** Further keys of the session's query (docs/FRAMES.md, "Opening a session"). */
  query?: Readonly<Record<string, string | number>>;
  token?: string | (() => string | Promise<string>) | null;
  /** How long a silent path is believed in, in milliseconds; 0: as long as the browser does. */
  watchdogMs?: number;
  /** Aborting it closes the session. */
  signal?: AbortSignal | null;
}

export interface SessionEvents {
  open: [welcome: Welcome, transport: TransportKind];
  close: [reason: string];
  /** No session follows. */
  refused: [code: string, detail: string, error: GatewayRefused];
  bye: [said: Bye];
  moved: [said: Moved];
  status: [status: Status];
  control: [said: Control];
}

export class Emitter<Events> {
  on<Type extends keyof Events>(
    type: Type, listener: (...values: Events[Type] extends unknown[] ? Events[Type] : never) => void, options?: { signal?: AbortSignal | null },
  ): Unsubscribe;
  has(type: keyof Events): boolean;
}

/** Why no session follows. */
export class GatewayRefused extends Error {
  readonly code: string;
  readonly detail: string;
  readonly world?: string;
  readonly url?: string;
  constructor(code: string, detail: string, facts?: { world?: string; url?: string });
}

export class Link {
  readonly kind: TransportKind;
  readonly max: number;
}

export class Session<Events extends SessionEvents = SessionEvents> extends Emitter<Events> {
  constructor(url: string, world: string, options?: SessionOptions);
  readonly url: string;
  /** The gateway in use: another one than `url` where the world has moved. */
  readonly address: string;
  readonly world: string;
  readonly status: Status;
  readonly epoch: number;
  readonly link: Link | null;
  readonly error: GatewayRefused | null;
  /** Why no session follows, in words; null while one does. */
  readonly fatal: string | null;
  readonly malformed: number;
  onopen: (welcome: Welcome) => void;
  oncontrol: (said: Control) => void;
  onclose: (reason: string) => void;
  /** Resolves with the first welcome. Rejects with GatewayRefused, or an AbortError where it was closed before. */
  open(options?: { signal?: AbortSignal | null }): Promise<Welcome>;
  close(): void;
  control(type: string, fields?: Readonly<Record<string, unknown>>): void;
}

export class WorldState {
  epoch: number;
  tick: number;
  get(key: number): Uint8Array | undefined;
  keys(): IterableIterator<number>;
  readonly size: number;
  /** Answers the keys that changed. */
  apply(frame: Frame): number[];
}

export interface SubscriberEvents extends SessionEvents { frame: [frame: Frame, changed: number[]] }

export class Subscriber<Events extends SubscriberEvents = SubscriberEvents> extends Session<Events> {
  readonly state: WorldState;
  readonly counts: Readonly<Record<"messages" | "bytes" | "repaired" | "keyframes" | "repeated" | "rebuilt", number>>;
  onframe: (frame: Frame, changed: number[]) => void;
  focus(keys: Iterable<number>, weights?: Iterable<number>): void;
}

export interface PublisherEvents extends SessionEvents {
  durable: [mark: Mark];
  notice: [said: Notice];
  /** What the gateway itself changed: an entity went to sleep, or woke. */
  changed: [records: Map<number, Data>];
}

export interface PublisherOptions extends SessionOptions {
  /** Replace the publisher that is there. */
  takeover?: boolean;
  /** An earlier run's epoch, and the secret that its welcome told. */
  epoch?: number;
  resume?: string | null;
}

export class Publisher extends Session<PublisherEvents> {
  constructor(url: string, world: string, options?: PublisherOptions);
  readonly tick: number;
  readonly live: ReadonlyMap<number, Uint8Array>;
  readonly durable: Mark | null;
  readonly resume: string | null;
  readonly counts: Readonly<Record<"frames" | "keyframes" | "repaired" | "changed", number>>;
  /** Answers the frame's tick. Throws the GatewayRefused that ended the session. */
  send(records: Records): number;
  keyframe(): void;
  waitDurable(tick?: number, options?: { signal?: AbortSignal | null }): Promise<Mark>;
}

export interface Place extends Mark { at_us: number; speed: number | "max" | "-max"; ended: boolean }
export type Moment = { tick: number; epoch?: number } | { at: string } | { mark: string };
export type Speed = number | "max" | "-max";

export interface ReplayEvents extends SubscriberEvents {
  position: [place: Place];
  gap: [said: Control];
  /** Where the session was to begin is not to be had. */
  "command-refused": [error: CommandRefused];
}

export class CommandRefused extends Error {
  readonly code: string;
  readonly detail: string;
  constructor(code: string, detail?: string);
}

export class Replay extends Subscriber<ReplayEvents> {
  constructor(url: string, world: string, options?: SessionOptions & { from?: Moment | Record<string, never>; speed?: Speed | null; paused?: boolean });
  readonly place: Place | null;
  play(speed?: Speed): Promise<Place>;
  pause(): Promise<Place>;
  seek(to: Moment): Promise<Place>;
  step(n?: number): Promise<Place>;
  live(): Promise<null>;
}

export interface BackgroundEvents extends SessionEvents { changed: [keys: number[]] }

export class BackgroundSubscriber extends Emitter<BackgroundEvents> {
  constructor(url: string, world: string, options?: SessionOptions & { everyMs?: number });
  readonly world: string;
  readonly state: ReadonlyMap<number, Uint8Array>;
  readonly epoch: number;
  readonly tick: number;
  readonly status: Status;
  readonly error: GatewayRefused | null;
  open(): Promise<Welcome>;
  close(): void;
  focus(keys: Iterable<number>, weights?: Iterable<number>): void;
  control(type: string, fields?: Readonly<Record<string, unknown>>): void;
}

export class GatewayError extends Error {
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly retry: boolean;
  readonly facts: Readonly<Record<string, unknown>>;
}

export interface HttpOptions {
  token?: string | (() => string | Promise<string>) | null;
  signal?: AbortSignal | null;
  timeoutMs?: number;
}

export type EntityKind = "variant" | "json" | "bytes";

export interface Entity {
  id: string;
  kind: EntityKind;
  state: Uint8Array;
  /** JSON decoded; else the bytes. */
  readonly value: unknown;
  revision: number;
  class: string;
  owner: string;
  tags: string[];
  key: number | null;
  quantity: number;
  inTransfer: boolean;
}

export interface PutOptions {
  kind?: EntityKind | null;
  className?: string;
  owner?: string;
  tags?: string[];
  key?: number;
  quantity?: number;
  ifMatch?: number;
  createOnly?: boolean;
  signal?: AbortSignal;
}

export interface Wanted { class?: string; owner?: string; tag?: string; prefix?: string }
export type Change =
  | { id: string; revision: number; entity: Entity; reset?: undefined }
  | { id: string; revision: number; entity: null; movedTo?: string | null; reset?: boolean };
export interface Move { item: string; from: string; to: string; quantity?: number }
export type Json = Record<string, unknown>;

export class Entities {
  constructor(url: string, name: string, options?: HttpOptions & { inventory?: boolean; lease?: string | null });
  readonly name: string;
  lease: string | null;
  put(id: string, state: unknown, options?: PutOptions): Promise<number>;
  get(id: string, options?: { at?: string; signal?: AbortSignal }): Promise<Entity>;
  patch(id: string, members: { class?: string; owner?: string; tags?: string[] }): Promise<number>;
  delete(id: string, options?: { ifMatch?: number }): Promise<number>;
  batch(operations: Json[]): Promise<Json[]>;
  list(wanted?: Wanted & { after?: string; limit?: string; state?: string }): Promise<Json>;
  all(wanted?: Wanted, options?: { signal?: AbortSignal }): AsyncGenerator<Entity, void>;
  watch(options?: Wanted & { since?: number; signal?: AbortSignal }): AsyncGenerator<Change, void>;
  hibernate(id: string, key: number, members?: Json): Promise<Json>;
  wake(id: string, key?: number): Promise<Json>;
  acquire(owner: string, options?: { takeover?: boolean }): Promise<string>;
  renew(owner: string): Promise<void>;
  release(owner: string): Promise<void>;
  transfer(ids: string | string[], to: string, options?: { expiresMs?: number }): Promise<string>;
  accept(ticket: string, options?: { owner?: string }): Promise<Json>;
  cancel(ticket: string): Promise<Json>;
  transferRecord(ticket: string): Promise<Json>;
  trade(moves: Move[], expect?: Json[]): Promise<Json[]>;
  marks(): Promise<Json>;
  mark(name: string, options?: { tick?: number; epoch?: number; data?: unknown }): Promise<Json>;
}

export function decode(bytes: Uint8Array): Frame | { control: Control };
export function encode(epoch: number, tick: number, records: Records, options?: { keyframe?: boolean }): Uint8Array;
export function encodeFrame(
  epoch: number, tick: number, rows: readonly (readonly [key: number, data: Data, tick?: number])[],
  options?: { max?: number; keyframe?: boolean; repair?: boolean; ticks?: boolean; sentAt?: number },
): Uint8Array[];

export class Rebuilder {
  /** Answers the message that was lost, once it can be known. */
  take(bytes: Uint8Array): Uint8Array | null;
}
