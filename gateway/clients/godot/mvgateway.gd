class_name MVGateway
extends Node
## A world of mvgateway by WebSocket, with stock Godot 4: follow it or publish it.
##
##   var arena: MVGateway = MVGateway.new()
##   arena.url = "wss://127.0.0.1:4433"
##   arena.world = "arena"
##   arena.changed.connect(func(keys: Array[int]) -> void: for key in keys: draw(key, arena.records.get(key)))
##   add_child(arena)
##
## It is connected while it is in the tree, also while that is paused, until [method close]. Messages are the frame
## protocol's, version 1 (docs/FRAMES.md).
##
## Made of the addon's files, for who copies one file; it needs no other.

const FRAME: int = 1
const CONTROL: int = 16
const KEYFRAME: int = 1
const ZSTD: int = 2
const TICKS: int = 8
const REMOVED: int = 0xFFFFFFFF
const KEY_MAX: int = 0xFFFFFFFF
const HEADER: int = 24


## A frame's message from [param changes] (key -> PackedByteArray, null removes).
static func encode(its_epoch: int, its_tick: int, changes: Dictionary, flags: int = 0, part: int = 0, parts: int = 1,
		at_us: int = -1) -> PackedByteArray:
	var out: StreamPeerBuffer = StreamPeerBuffer.new()
	out.put_u8(FRAME)
	out.put_u8(flags)
	out.put_u16(part)
	out.put_u16(parts)
	out.put_u16(0)
	out.put_u32(its_epoch)
	out.put_u32(its_tick)
	out.put_u64(int(Time.get_unix_time_from_system() * 1_000_000) if at_us < 0 else at_us)
	for key: int in changes:
		var value: Variant = changes[key]
		out.put_u32(key)
		if value == null:
			out.put_u32(REMOVED)
		else:
			var data: PackedByteArray = value
			out.put_u32(data.size())
			var _failed: Error = out.put_data(data)
	return out.data_array


## A message's records; false where it is malformed.
static func _read(packet: PackedByteArray, flags: int, base: int, order: int, keys: Array[int], values: Array,
		orders: PackedInt64Array) -> bool:
	var stride: int = packet.decode_u16(6)
	var own: int = 4 if flags & TICKS else 0
	var size: int = packet.size()
	var at: int = HEADER
	if stride > 0 and (stride < 4 or (size - HEADER) % (stride + own) != 0):
		return false
	while at < size:
		if at + own + (stride if stride > 0 else 8) > size:
			return false
		_ok(orders.append(base | packet.decode_u32(at) if own > 0 else order))
		at += own
		keys.append(packet.decode_u32(at))
		var length: int = stride
		if stride == 0:
			length = packet.decode_u32(at + 4)
			at += 8
		if length == REMOVED:
			values.append(null)
			continue
		if at + length > size:
			return false
		values.append(packet.slice(at, at + length))
		at += length
	return true


static func _int_of(of: Dictionary, field: String) -> int:
	var found: Variant = of.get(field)
	if found is float:
		var number: float = found
		return int(number)
	return found if found is int else 0


static func _drop(from: Dictionary, key: int) -> void:
	var _was: bool = from.erase(key)


static func _ok(_result: Variant) -> void:
	pass


static func _now() -> float:
	return Time.get_ticks_msec() / 1000.0


const TOMBSTONE_TICKS: int = 600
const TOMBSTONES_MAX: int = 16_384
const KEYFRAMES_PENDING_MAX: int = 2

## key -> PackedByteArray, the newest of each. A publisher's: what it said.
var records: Dictionary = {}
var epoch: int = 0
var tick: int = 0
## The publisher's clock in the newest frame's message, microseconds since the Unix epoch.
var sent_at: int = 0
var _newest: int = 0        # order of the newest frame
var _highest: int = -1      # no record, removal or floor is newer
var _floor: int = -1        # order of the publisher's newest whole keyframe
var _orders: Dictionary = {}
var _gone: Dictionary = {}  # removed key -> its order, oldest first
var _parts: Dictionary = {} # keyframe order -> [parts seen, keys held]
var _reset_due: bool = false


## Take what is newer in a frame's message; answers the keys that changed. A malformed one changes nothing.
func _apply(packet: PackedByteArray) -> Array[int]:
	var keys: Array[int] = []
	var flags: int = packet[1]
	var base: int = packet.decode_u32(8) << 32
	var order: int = base | packet.decode_u32(12)
	var is_newest: bool = order > _highest and flags & (TICKS | ZSTD) == 0
	if not is_newest or not _apply_newest(packet, order, keys):
		keys.clear()
		_apply_older(packet, flags, base, order, keys)
	return keys


func _seen(order: int) -> void:
	if order > _newest:
		_newest = order
		epoch = order >> 32
		tick = order & 0xFFFFFFFF


## The frequent case: everything in it is newer than all that is known, no key comes twice, and none is removed. False,
## and nothing has changed, where it is not so.
func _apply_newest(packet: PackedByteArray, order: int, keys: Array[int]) -> bool:
	var stride: int = packet.decode_u16(6)
	var size: int = packet.size()
	var at: int = HEADER
	var values: Dictionary = {}
	if stride > 0:
		if stride < 4 or (size - HEADER) % stride != 0:
			return false
		while at < size:
			var key: int = packet.decode_u32(at)
			values[key] = packet.slice(at, at + stride)
			keys.append(key)
			at += stride
	else:
		while at < size:
			if at + 8 > size:
				return false
			var key: int = packet.decode_u32(at)
			var end: int = at + 8 + packet.decode_u32(at + 4)
			if end > size:
				return false
			values[key] = packet.slice(at + 8, end)
			keys.append(key)
			at = end
	if values.size() != keys.size():
		return false
	if packet[1] & KEYFRAME and _reset_due:
		return false
	records.merge(values, true)
	for key: int in keys:
		_orders[key] = order
	if not _gone.is_empty():
		for key: int in keys:
			_drop(_gone, key)
	_highest = order
	_seen(order)
	if packet[1] & KEYFRAME:
		_keyframe_part(packet, order, keys, keys)
	return true


func _apply_older(packet: PackedByteArray, flags: int, base: int, order: int, keys: Array[int]) -> void:
	var its_keys: Array[int] = []
	var its_values: Array = []
	var its_orders: PackedInt64Array = []
	if flags & ZSTD or not _read(packet, flags, base, order, its_keys, its_values, its_orders):
		return
	if flags & KEYFRAME and _reset_due:
		_reset_due = false
		for key: int in records:
			if not its_keys.has(key):
				keys.append(key)
		_forget()
	var newest: int = order
	for at: int in its_keys.size():
		var key: int = its_keys[at]
		newest = maxi(newest, its_orders[at])
		if its_orders[at] > _order_at(key):
			keys.append(key)
			_assign(key, its_values[at], its_orders[at])
	_seen(newest)
	if flags & KEYFRAME:
		_keyframe_part(packet, order, its_keys, keys)


func _order_at(key: int) -> int:
	if _orders.has(key):
		return _orders[key]
	var removed: int = _gone.get(key, -1)
	return maxi(removed, _floor - 1)


func _assign(key: int, value: Variant, order: int) -> void:
	_drop(_gone, key)
	_highest = maxi(_highest, order)
	if value != null:
		records[key] = value
		_orders[key] = order
		return
	_drop(records, key)
	_drop(_orders, key)
	_gone[key] = order
	var horizon: int = _newest - TOMBSTONE_TICKS
	while not _gone.is_empty():
		var oldest: int = _first(_gone)
		if _gone[oldest] >= horizon and _gone.size() <= TOMBSTONES_MAX:
			return
		_drop(_gone, oldest)


static func _first(of: Dictionary) -> int:
	for key: int in of:
		return key
	return -1


## Count a keyframe's part; once all are there, what none of them holds is gone, and is put into [param keys].
func _keyframe_part(packet: PackedByteArray, order: int, held: Array[int], keys: Array[int]) -> void:
	var parts: int = packet.decode_u16(4)
	if parts == 0 or order < _floor:
		return
	if not _parts.has(order):
		_parts[order] = [{}, {}]
	var pending: Array = _parts[order]
	var seen: Dictionary = pending[0]
	var known: Dictionary = pending[1]
	seen[packet.decode_u16(2)] = true
	for key: int in held:
		known[key] = true
	if seen.size() < parts:
		while _parts.size() > KEYFRAMES_PENDING_MAX:
			var oldest: int = _parts.keys().min()
			_drop(_parts, oldest)
		return
	if packet[1] & TICKS == 0:
		_floor = maxi(_floor, order)
		_highest = maxi(_highest, order)
	for older: int in _parts.keys():
		if older <= order:
			_drop(_parts, older)
	for key: int in _orders.keys():
		if _orders[key] < order and not known.has(key):
			keys.append(key)
			_assign(key, null, order)


func _forget() -> void:
	records.clear()
	_orders.clear()
	_gone.clear()
	_parts.clear()
	_newest = 0
	_highest = -1
	_floor = -1


## No session follows: [param code] as docs/API.md names it, [param detail] in the gateway's words.
signal refused(code: String, detail: String)
## The session ended; another one is tried unless [signal refused] comes, or [method close] was called.
signal disconnected(reason: String)
## The keys whose records changed (removed ones are no longer in [member records]).
signal changed(keys: Array[int])

enum Status { OFF, CONNECTING, CONNECTED, WAITING, REFUSED }

const BACKLOG_BYTES: int = 1 << 20       ## so much unsent, and only newest values wait
const BACKOFF_MIN_S: float = 0.05

@export var url: String = "wss://127.0.0.1:4433":
	set(value):
		if value != url:
			url = value
			_ask_anew()
## Which world; another one may be set at any time.
@export var world: String = "arena":
	set(value):
		if value != world:
			world = value
			if not _led:
				_ask_anew()
## "subscribe" or "publish".
@export_enum("subscribe", "publish") var role: String = "subscribe":
	set(value):
		if value != role:
			role = value
			_ask_anew()

## Why no session follows: a refusal that trying again will not mend.
var refusal: String = ""
## Why the newest attempt or session ended; empty while connected.
var trouble: String = ""
var status: Status = Status.OFF
## {epoch, tick} up to which everything is in the store.
var durable: Dictionary = {}
## The gateway that is asked: [member url], or the one to which that sent us.
var address: String = ""
var _socket: WebSocketPeer = null
var _wanted: bool = true    # close() makes it false
var _led: bool = false      # the gateway itself sets the world
var _resume: String = ""    # this epoch's secret: the right to come back to it
var _owed: Dictionary = {}  # keys whose newest value found no room yet
var _wait_s: float = BACKOFF_MIN_S
var _retry_at: float = 0.0
var _hops: int = 0
var _retried: bool = false  # a fresh token was tried since we were last let in
var _connecting: bool = false
var _attempt: int = 0       # rises with each connection: whoever awaited something for an older one lets it be


## Connect (again), after [method close] or a refusal. In the tree it does so by itself.
func open() -> void:
	_wanted = true
	refusal = ""
	_retried = false
	_hops = 0
	_wait_s = BACKOFF_MIN_S
	_retry_at = 0.0
	if _socket == null:
		status = Status.CONNECTING


## End the session, and stay away until [method open].
func close() -> void:
	_wanted = false
	_leave("closed")
	status = Status.OFF


## Send a control message, such as {"type": "seek", "tick": 100} in a replay.
func control(message: Dictionary) -> void:
	if _socket != null and _socket.get_ready_state() == WebSocketPeer.STATE_OPEN:
		var body: PackedByteArray = PackedByteArray([CONTROL]) + JSON.stringify(message).to_utf8_buffer()
		_ok(_put(body))


## A name for a status.
func status_text() -> String:
	return str(Status.find_key(status)).to_lower()


## Another world, role or gateway: begin again, with nothing of what was.
func _ask_anew() -> void:
	var begun: bool = epoch > 0 or _newest > 0
	_leave("asked anew")
	if begun:
		_forget_all()
	address = ""
	if is_inside_tree() and _wanted:
		open()


## Let go of the connection. Nothing of what is known changes.
func _leave(why: String) -> void:
	var was: WebSocketPeer = _socket
	_socket = null
	_attempt += 1
	_connecting = false
	_owed.clear()
	_parts.clear()
	if was != null:
		was.close()
		was.poll()
		if status == Status.CONNECTED:
			disconnected.emit(why)


func _refuse(code: String, detail: String) -> void:
	_leave(detail)
	status = Status.REFUSED
	refusal = detail if detail != "" else code
	refused.emit(code, refusal)


## Scheme, host and port of an address; empty where it has none.
static func _base(whole: String) -> String:
	var parts: PackedStringArray = whole.strip_edges().split("://")
	if parts.size() != 2 or parts[1] == "":
		return ""
	var scheme: String = {"https": "wss", "http": "ws"}.get(parts[0], parts[0])
	return scheme + "://" + parts[1].get_slice("/", 0) if scheme in ["ws", "wss"] else ""


static func _is_loopback(there: String) -> bool:
	var host: String = there.get_slice("://", 1)
	host = host.get_slice("]", 0) + "]" if host.begins_with("[") else host.get_slice(":", 0)
	return host == "localhost" or host == "[::1]" or host.begins_with("127.")


func _forget_all() -> void:
	var keys: Array[int] = []
	keys.assign(records.keys())
	_forget()
	_owed.clear()
	epoch = 0
	tick = 0
	_resume = ""
	durable = {}
	if not keys.is_empty():
		changed.emit(keys)


func _has_room() -> bool:
	return _socket.get_current_outbound_buffered_amount() < BACKLOG_BYTES


func _put(message: PackedByteArray) -> bool:
	return _socket.get_ready_state() == WebSocketPeer.STATE_OPEN and _socket.send(message) == OK


const TOKEN_MARGIN_S: float = 300.0

## By which the gateway lets us in: a String, or a Callable that answers a fresh one (it may await). It is called
## before the old one ends, and the session goes on. Never shown.
var token: Variant = null
var _held: String = ""      # the newest token of a Callable
var _renew_at: float = INF  # when a fresh one is wanted, Unix seconds


func _current_token() -> String:
	if not token is Callable:
		return "" if token == null else str(token).strip_edges()
	if _held == "" or Time.get_unix_time_from_system() >= _renew_at:
		await _fetch_token()
	return _held


func _fetch_token() -> void:
	_renew_at = INF
	var source: Callable = token
	@warning_ignore("redundant_await")
	var made: String = str(await source.call()).strip_edges()
	var now: float = Time.get_unix_time_from_system()
	if made == "" or made == "<null>":
		_renew_at = now + 1.0
		return
	_held = made
	var left: float = _expiry(_held) - now
	_renew_at = now + left - minf(maxf(left, 0.0) / 4.0, TOKEN_MARGIN_S)


## When a token ends by its own word (RFC 7519, exp), Unix seconds; INF where it does not say.
static func _expiry(by: String) -> float:
	var parts: PackedStringArray = by.split(".")
	if parts.size() != 3:
		return INF
	var text: String = parts[1].replace("-", "+").replace("_", "/")
	var found: Variant = JSON.parse_string(Marshalls.base64_to_utf8(text + "=".repeat((4 - text.length() % 4) % 4)))
	if not found is Dictionary:
		return INF
	var claims: Dictionary = found
	var exp_at: Variant = claims.get("exp")
	if exp_at is float:
		var at: float = exp_at
		return at
	return INF


func _renew() -> void:
	if not token is Callable:
		_renew_at = INF
		return
	var attempt: int = _attempt
	var before: String = _held
	await _fetch_token()
	if _held != before and attempt == _attempt:
		control({"type": "token", "token": _held})


## Everything up to there is in the store: for publishers.
signal durable_moved(epoch: int, tick: int)
## A record of [method send] is larger than any message and was left out.
signal unsent(key: int, bytes: int, bytes_max: int)

const PART_BYTES: int = 65_535           ## of a frame's messages, but where one record is larger
const RECORD_BYTES_MAX: int = (16 << 20) - HEADER - 8

var _keyframe_due: bool = false


## Publish one frame: key -> PackedByteArray, null removes. [param keyframe]: these are all records. Never waits.
## Answers its tick.
func send(changes: Dictionary, keyframe: bool = false) -> int:
	tick += 1
	if is_same(changes, records):
		changes = records.duplicate()
	if keyframe:
		records.clear()
		_owed.clear()
	var fits: bool = true
	for key: int in changes:
		var value: Variant = changes[key]
		if key < 0 or key > KEY_MAX or not (value == null or value is PackedByteArray):
			push_error("record %d of %s is left out: keys are 0 to 4294967295, values PackedByteArray or null" % [key, world])
			fits = false
		elif value == null:
			_drop(records, key)
		else:
			var data: PackedByteArray = value
			if data.size() > RECORD_BYTES_MAX:
				push_error("record %d of %s is left out: %d bytes, and a message holds %d; split it" % [key, world, data.size(), RECORD_BYTES_MAX])
				unsent.emit(key, data.size(), RECORD_BYTES_MAX)
				fits = false
			else:
				records[key] = data
	if status != Status.CONNECTED or epoch == 0 or role != "publish":
		return tick
	if keyframe:
		_send_keyframe()
	elif not _has_room():
		_owed.merge(changes)
	else:
		if not _owed.is_empty() or not fits:
			changes = _newest_of(changes)
		_send_parts(changes, 0)
	return tick


## The epoch's secret, for whoever goes on with this run in another process (with [member epoch]): keep it to yourself.
func resume_secret() -> String:
	return _resume


## Take up the run of another process: its epoch, and the secret of [method resume_secret].
func resume_from(its_epoch: int, secret: String, its_tick: int = 0) -> void:
	epoch = its_epoch
	_resume = secret
	tick = its_tick


## Wait until [param at] (default: the newest tick) of this epoch is in the store; false where it no longer can be.
func wait_durable(at: int = -1) -> bool:
	var wanted: int = tick if at < 0 else at
	var its_epoch: int = epoch
	while durable.is_empty() or _durable_order() < (its_epoch << 32 | wanted):
		if not is_inside_tree() or refusal != "" or not _wanted:
			return false
		await get_tree().process_frame
		if its_epoch == 0:
			its_epoch = epoch
	return true


func _take_durable(message: Dictionary) -> void:
	durable = {"epoch": _int_of(message, "epoch"), "tick": _int_of(message, "tick")}
	durable_moved.emit(_int_of(message, "epoch"), _int_of(message, "tick"))


## What the gateway itself changed in a publisher's world: an entity that went to sleep, or woke. It is the newest, and
## is not to be said again.
func _adopt(packet: PackedByteArray) -> Array[int]:
	var keys: Array[int] = []
	var values: Array = []
	var orders: PackedInt64Array = []
	var base: int = packet.decode_u32(8) << 32
	if packet[1] & ZSTD:
		return keys
	if not _read(packet, packet[1], base, base | packet.decode_u32(12), keys, values, orders):
		return []
	for at: int in keys.size():
		_drop(_owed, keys[at])
		if values[at] == null:
			_drop(records, keys[at])
		else:
			records[keys[at]] = values[at]
	if packet.decode_u32(8) == epoch:
		tick = maxi(tick, packet.decode_u32(12))
	return keys


## The newest values of these and of what is owed.
func _newest_of(changes: Dictionary) -> Dictionary:
	_owed.merge(changes)
	var all: Dictionary = {}
	for key: int in _owed:
		if key >= 0 and key <= KEY_MAX:
			all[key] = records.get(key)
	_owed.clear()
	return all


func _send_owed() -> void:
	if epoch == 0 or role != "publish" or not _has_room():
		return
	tick += 1
	if _keyframe_due:
		_send_keyframe()
	else:
		_send_parts(_newest_of({}), 0)


func _send_keyframe() -> void:
	_keyframe_due = not _has_room()
	if not _keyframe_due:
		_owed.clear()
		_send_parts(records, KEYFRAME)


func _send_parts(changes: Dictionary, flags: int) -> void:
	var groups: Array[Dictionary] = [{}]
	var size: int = HEADER
	for key: int in changes:
		var value: Variant = changes[key]
		var more: int = 8
		if value != null:
			var data: PackedByteArray = value
			more += data.size()
		if size + more > PART_BYTES and not groups[-1].is_empty():
			groups.append({})
			size = HEADER
		groups[-1][key] = value
		size += more
	var at_us: int = int(Time.get_unix_time_from_system() * 1_000_000)
	for part: int in groups.size():
		if not _put(encode(epoch, tick, groups[part], flags, part, groups.size(), at_us)):
			_owed.merge(groups[part])
			_keyframe_due = _keyframe_due or flags & KEYFRAME != 0


func _durable_order() -> int:
	return _int_of(durable, "epoch") << 32 | _int_of(durable, "tick")


## The session is open and the gateway has said [code]welcome[/code]; [member welcome] is what it said.
signal welcomed
## What is followed went to another world (or this one to another gateway), and this node with it.
signal moved(world: String)
## A control message: welcome, resync, durable, notice, bye, error, position …
signal told(message: Dictionary)

const BACKOFF_MAX_S: float = 2.0
const HOPS_MAX: int = 4

## Publish in the place of whoever does.
@export var takeover: bool = false

## The newest welcome of the gateway.
var welcome: Dictionary = {}
var _ended_by: Array[String] = []  # code and detail of the session's last message
var _asked_wait_s: float = 0.0
var _let_in: bool = false   # the gateway has said welcome on this connection


func _take(packet: PackedByteArray) -> void:
	if packet.size() > 0 and packet[0] == CONTROL:
		_take_control(packet)
	elif packet.size() >= HEADER and packet[0] == FRAME:
		sent_at = packet.decode_s64(16)
		var keys: Array[int] = _adopt(packet) if role == "publish" else _apply(packet)
		if not keys.is_empty():
			changed.emit(keys)


func _take_control(packet: PackedByteArray) -> void:
	var read: Variant = JSON.parse_string(packet.slice(1).get_string_from_utf8())
	if not read is Dictionary:
		return
	var message: Dictionary = read
	match message.get("type"):
		"welcome":
			_take_welcome(message)
		"resync":
			_reset_due = message.get("reason") == "seek"
		"durable":
			_take_durable(message)
		"moved":
			_take_moved(message)
		"bye":
			_take_bye(message)
		"error":
			_ended_by = [str(message.get("code")), str(message.get("message"))]
			if message.get("code") == "world_held" and role != "publish" and _go_to(str(message.get("url", ""))):
				_ended_by[0] = "moved"
	told.emit(message)


func _take_welcome(message: Dictionary) -> void:
	welcome = message
	_let_in = true
	_wait_s = BACKOFF_MIN_S
	_retried = false
	_hops = 0
	var its_epoch: int = _int_of(message, "epoch")
	var its_tick: int = _int_of(message, "tick")
	if role == "publish":
		if its_epoch != epoch or message.has("resume"):
			_resume = str(message.get("resume", ""))
		tick = maxi(tick, its_tick) if its_epoch == epoch else tick
		epoch = its_epoch
		takeover = false
		control({"type": "changes"})
		if message.get("durable") is Dictionary:
			var mark: Dictionary = message["durable"]
			_take_durable(mark)
	elif (its_epoch << 32 | its_tick) > _newest or its_epoch != epoch:
		epoch = its_epoch
		tick = its_tick
	welcomed.emit()
	if role == "publish" and tick > 0 and status == Status.CONNECTED:
		tick += 1
		_send_keyframe()


func _take_moved(message: Dictionary) -> void:
	var to: String = str(message.get("world", ""))
	if to != "" and to != world:
		_led = true
		world = to
		_led = false
		_forget_all()
	moved.emit(to)


func _take_bye(message: Dictionary) -> void:
	var reason: String = str(message.get("reason"))
	var wait_ms: Variant = message.get("reconnect_after_ms")
	if wait_ms is float:
		var ms: float = wait_ms
		_asked_wait_s = clampf(ms / 1000.0, 0.0, BACKOFF_MAX_S)
	match reason:
		"taken_over", "takeover", "reconnected":
			_ended_by = ["taken_over", "another publisher took the world over"]
		"expired", "revoked":
			_ended_by = ["grant_ended", "the gateway ended this session: its grant is %s" % reason]
		"moved":
			var there: String = str(message.get("url", ""))
			_ended_by = ["world_held", "%s has its home at %s" % [world, there]]
			if role != "publish" and _go_to(there):
				_ended_by[0] = "moved"
		_:
			_ended_by = ["bye", "the gateway said bye: " + reason]


## Ask the gateway at [param there] next; false where it may not be: no address, from wss to ws, or one hop too many.
func _go_to(there: String) -> bool:
	var to: String = _base(there)
	if to == "" or to == address or _hops >= HOPS_MAX or (_base(url).begins_with("wss://") and not to.begins_with("wss://")):
		return false
	_hops += 1
	address = to
	return true


## A connection to the gateway is there. It may still refuse.
signal connected

const MESSAGE_BYTES_MAX: int = 16 << 20  ## what a gateway takes, unless it was told to take less
const INBOUND_BYTES: int = 8 << 20       ## what may come between two looks; the engine drops more in silence
const INBOUND_PACKETS: int = 8_192
const HEARTBEAT_S: float = 5.0           ## a path that answers no ping for so long is given up
const CONNECT_S_MAX: float = 5.0
const TOKEN_S_MAX: float = 10.0
## Refusals that another token may mend.
const BY_TOKEN: PackedStringArray = ["unauthorized", "grant_refused", "grant_ended", "forbidden"]
## Refusals that time may mend; any other is final.
const BY_TIME: PackedStringArray = [
	"conflict", "overloaded", "too_many", "crowded", "shutting_down", "world_deleted", "store", "store_unavailable",
	"store_damaged", "transfer_failed", "too_early", "no_token",
]
## What a close code says where its message was not seen (docs/FRAMES.md, "Opening a session").
const CLOSE_CODES: Dictionary = {
	4001: "error", 4002: "shutting_down", 4003: "taken_over", 4004: "publisher_present", 4005: "malformed",
	4006: "too_slow", 4007: "world_held", 4008: "grant_ended", 4009: "unauthorized", 1009: "too_large",
}

## Follow the world as it was so many seconds ago (1 to 3600); 0: now.
@export var delay_s: float = 0.0
## At most so many kilobits a second; 0: unbounded. What does not fit waits its turn as newest values.
@export var budget_kbps: int = 0
## Go where this entity goes, from world to world.
@export var follow: String = ""
## A CA file to trust (a copy of the gateway's certs/ca.pem; name it .crt, and it is exported with the game); empty:
## the system's.
@export_file("*.crt", "*.pem") var ca_file: String = ""
## Believe whoever answers. For a first try on this machine.
@export var insecure: bool = false

## The weights of [method focus].
var weights: Dictionary = {}
var _since_s: float = 0.0   # when the socket was made
var _asked_at: float = 0.0  # when the token was asked for
var _say_token: String = "" # where no header can be set: the first message


func _init() -> void:
	process_mode = Node.PROCESS_MODE_ALWAYS


func _enter_tree() -> void:
	if _wanted and refusal == "":
		open()


func _exit_tree() -> void:
	_leave("removed")
	if status != Status.REFUSED:
		status = Status.OFF


func _process(_delta: float) -> void:
	var socket: WebSocketPeer = _socket
	if socket == null:
		if _wanted and refusal == "" and not _connecting and _now() >= _retry_at:
			@warning_ignore("missing_await")
			_connect()
		elif _connecting and _now() - _asked_at > TOKEN_S_MAX:
			_attempt += 1
			_connecting = false
			_retry_at = _now() + 1.0
			trouble = "the function that is the token gave none within %d s" % int(TOKEN_S_MAX)
		return
	socket.poll()
	var state: WebSocketPeer.State = socket.get_ready_state()
	if state == WebSocketPeer.STATE_OPEN and status == Status.CONNECTING:
		_opened()
	var bytes: int = 0
	var packets: int = 0
	while socket == _socket and socket.get_available_packet_count() > 0:
		var packet: PackedByteArray = socket.get_packet()
		bytes += packet.size()
		packets += 1
		_take(packet)
	if socket != _socket:
		return
	if bytes > INBOUND_BYTES - 2 * PART_BYTES or packets > INBOUND_PACKETS - 2:
		socket.close()
		_closed(-1, "so much came at once that some of it may be lost; its state is asked for anew")
		return
	if state == WebSocketPeer.STATE_OPEN:
		if not _owed.is_empty() or _keyframe_due:
			_send_owed()
		if Time.get_unix_time_from_system() >= _renew_at:
			@warning_ignore("missing_await")
			_renew()
	elif state == WebSocketPeer.STATE_CLOSED:
		_closed(socket.get_close_code(), socket.get_close_reason())
	elif state == WebSocketPeer.STATE_CONNECTING and _now() - _since_s > CONNECT_S_MAX:
		_closed(-1, "no answer from %s within %d s" % [address, int(CONNECT_S_MAX)])


## These records matter more or less: key -> weight (1 is as any other), in the place of the weights before.
func focus(keys: Dictionary) -> void:
	weights = keys.duplicate()
	control({"type": "focus", "keys": weights.keys(), "weights": weights.values()})


func _path() -> String:
	var path: String = "/v1/worlds/%s/live?role=%s" % [world.uri_encode(), role]
	if role == "publish":
		if epoch > 0:
			path += "&epoch=%d" % epoch
			if _resume != "":
				path += "&resume=" + _resume
		if takeover:
			path += "&takeover=1"
		return path
	if delay_s > 0.0:
		path += "&delay_s=%.3f" % delay_s
	if budget_kbps > 0:
		path += "&budget_kbps=%d" % budget_kbps
	if follow != "":
		path += "&follow=" + follow.uri_encode()
	if not weights.is_empty():
		var said: PackedStringArray = []
		for key: int in weights:
			_ok(said.append("%d:%s" % [key, weights[key]]))
		path += "&keys=" + ",".join(said)
	return path


func _connect() -> void:
	if world == "" or url == "":
		return
	_attempt += 1
	var attempt: int = _attempt
	if address == "":
		address = _base(url)
	_connecting = true
	_let_in = false
	_asked_at = _now()
	status = Status.CONNECTING
	var by: String = await _current_token()
	if attempt != _attempt:
		return
	_connecting = false
	if not _wanted or not is_inside_tree():
		return
	if token is Callable and by == "":
		_retry_at = _now() + 1.0
		trouble = "the function that is the token gave none"
		return
	if by != "" and address.begins_with("ws://") and not _is_loopback(address):
		_refuse("config", "a token would go to %s in clear text, for everybody on the way to read; use wss://" % address)
		return
	_socket = WebSocketPeer.new()
	_socket.inbound_buffer_size = INBOUND_BYTES
	_socket.max_queued_packets = INBOUND_PACKETS
	_socket.outbound_buffer_size = MESSAGE_BYTES_MAX + BACKLOG_BYTES
	_socket.heartbeat_interval = HEARTBEAT_S
	_ended_by = []
	_asked_wait_s = 0.0
	_since_s = _now()
	_say_token = ""
	if by != "" and OS.has_feature("web"):
		_say_token = by  # a browser sets no headers
	elif by != "":
		_socket.handshake_headers = PackedStringArray(["Authorization: Bearer " + by])
	var tls: TLSOptions = null
	if insecure:
		tls = TLSOptions.client_unsafe()
	elif ca_file != "":
		var certificate: X509Certificate = _certificate(ca_file)
		if certificate == null:
			_refuse("config", "no certificate can be read from %s; export it with the game as a .crt" % ca_file)
			return
		tls = TLSOptions.client(certificate)
	var failed: Error = _socket.connect_to_url(address + _path(), tls)
	if failed != OK:
		_refuse("config", "%s is no address of a gateway (%s)" % [address, error_string(failed)])


static func _certificate(path: String) -> X509Certificate:
	for file: String in [path, path.get_basename() + ".crt"]:
		var certificate: X509Certificate = X509Certificate.new()
		if FileAccess.file_exists(file) and certificate.load(file) == OK:
			return certificate
		if ResourceLoader.exists(file):
			var found: Resource = ResourceLoader.load(file)
			if found is X509Certificate:
				return found
	return null


func _opened() -> void:
	status = Status.CONNECTED
	trouble = ""
	connected.emit()
	if _say_token != "":
		control({"type": "token", "token": _say_token})
		_say_token = ""


func _closed(close_code: int, reason: String) -> void:
	_socket = null
	_attempt += 1
	_owed.clear()
	_parts.clear()
	var code: String = ""
	var detail: String = reason
	if _ended_by.size() == 2:
		code = _ended_by[0]
		detail = _ended_by[1]
	elif CLOSE_CODES.has(close_code):
		code = CLOSE_CODES[close_code]
		if close_code == 1009:
			detail = "a message of more than %d bytes came" % INBOUND_BYTES
	var was_open: bool = status == Status.CONNECTED
	status = Status.WAITING
	trouble = detail if detail != "" else ("the connection broke" if was_open else
		"%s did not answer, or is not trusted by ca_file" % address)
	if was_open:
		disconnected.emit(trouble)
		if _socket != null or not _wanted or not is_inside_tree():
			return  # whoever was told went on already
	_judge(code, detail)


## What comes after a session that ended so: another one at once, later, or none.
func _judge(code: String, detail: String) -> void:
	if code == "moved":
		_retry_at = 0.0
		return
	if code in BY_TOKEN and token is Callable and not _retried:
		_retried = true
		_held = ""
	elif code not in ["", "error", "too_slow", "bye"] and code not in BY_TIME and not (code == "world_held" and role != "publish"):
		_refuse(code, detail)
		return
	_hops = 0
	if not _let_in:
		address = ""  # the given one knows where the world is now
	_retry_at = _now() + maxf(_asked_wait_s, _wait_s * randf_range(0.5, 1.0))
	_wait_s = minf(_wait_s * 2.0, BACKOFF_MAX_S)
