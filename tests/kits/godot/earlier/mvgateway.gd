class_name MVGateway
extends Node
## A world of mvgateway by WebSocket, with stock Godot 4: follow it or publish it.
##
##   var arena := MVGateway.new()
##   arena.url = "wss://127.0.0.1:4433"
##   arena.world = "arena"
##   arena.changed.connect(func(keys): for k in keys: draw(k, arena.records.get(k)))
##   add_child(arena)
##
## Messages are the frame protocol's, version 1 (docs/FRAMES.md): little-endian, as StreamPeerBuffer reads.

## The keys whose records changed (removed ones are no longer in `records`).
signal changed(keys: Array[int])
## A control message: welcome, resync, durable, bye, error, position …
signal told(message: Dictionary)

const FRAME := 1
const CONTROL := 16
const KEYFRAME := 1
const ZSTD := 2
const TICKS := 8
const REMOVED := 0xFFFFFFFF
const HEADER := 24
const REFUSED := ["unauthorized", "grant_refused", "forbidden"]  ## what another token may mend
const TOKEN_MARGIN_S := 300.0
const BACKOFF_MIN_S := 0.05
const BACKOFF_MAX_S := 2.0

@export var url := "wss://127.0.0.1:4433"
@export var world := "arena"
## "subscribe" or "publish".
@export var role := "subscribe"
## Follow the world as it was so many seconds ago (1 to 3600); 0: now.
@export var delay_s := 0.0
## A CA file to trust (the gateway's certs/ca.pem); empty: the system's.
@export var ca_file := ""

## By which the gateway lets us in: a String, or a Callable that answers a fresh one (it may await). It is called
## before the old one ends, and the session goes on. Never shown.
var token: Variant = null
## Why no session follows: a refusal that trying again will not mend.
var refused := ""

var records := {}          ## key -> PackedByteArray, the newest of each
var epoch := 0
var tick := 0
var durable := {}          ## {epoch, tick} of the last synced frame, for publishers

var _socket := WebSocketPeer.new()
var _resume := ""          ## this epoch's secret: the right to come back to it
var _orders := {}          ## key -> epoch << 32 | tick
var _gone := {}            ## removed key -> its order
var _parts := {}           ## keyframe order -> {parts: {}, keys: {}}
var _wait := BACKOFF_MIN_S
var _retry_at := 0.0
var _reset_due := false
var _final := false
var _held := ""            ## the newest token of a Callable
var _renew_at := INF       ## when a fresh one is wanted, Unix seconds
var _retried := false      ## a fresh token was tried since we were last let in
var _connecting := false
var _say_token := ""       ## where no header can be set: the first message


func _ready() -> void:
	_socket.inbound_buffer_size = 1 << 20
	_connect()


func _process(_delta: float) -> void:
	_socket.poll()
	match _socket.get_ready_state():
		WebSocketPeer.STATE_OPEN:
			_retry_at = 0.0
			if _say_token != "":
				control({"type": "token", "token": _say_token})
				_say_token = ""
			if Time.get_unix_time_from_system() >= _renew_at:
				_renew()
			while _socket.get_available_packet_count() > 0:
				_take(_socket.get_packet())
		WebSocketPeer.STATE_CLOSED:
			if not _final and not _connecting:
				_come_back()


func _exit_tree() -> void:
	_final = true
	_socket.close()


## Publish one frame: key -> PackedByteArray, null removes. Never waits. Answers its tick.
func send(changes: Dictionary, keyframe := false) -> int:
	tick += 1
	for key: int in changes:
		if changes[key] == null:
			records.erase(key)
		else:
			records[key] = changes[key]
	if _socket.get_ready_state() == WebSocketPeer.STATE_OPEN and epoch > 0:
		_send_parts(changes, keyframe)
	return tick


## Send a control message, such as {"type": "seek", "tick": 100} in a replay.
func control(message: Dictionary) -> void:
	if _socket.get_ready_state() == WebSocketPeer.STATE_OPEN:
		var body := PackedByteArray([CONTROL])
		body.append_array(JSON.stringify(message).to_utf8_buffer())
		_socket.send(body)


func _connect() -> void:
	_connecting = true
	var by: String = await _current_token()
	_connecting = false
	if _final or not is_inside_tree() or (token is Callable and by == ""):
		return
	if by != "" and OS.has_feature("web"):
		_say_token = by  # a browser sets no headers
	elif by != "":
		_socket.handshake_headers = PackedStringArray(["Authorization: Bearer " + by])
	var path := "%s/v1/worlds/%s/live?role=%s" % [url, world.uri_encode(), role]
	if role == "subscribe" and delay_s > 0.0:
		path += "&delay_s=%.3f" % delay_s
	if role == "publish" and epoch > 0:
		path += "&epoch=%d" % epoch
		if _resume != "":
			path += "&resume=" + _resume
	var tls: TLSOptions = null
	if ca_file != "":
		var certificate := X509Certificate.new()
		if certificate.load(ca_file) == OK:
			tls = TLSOptions.client(certificate)
	_socket.connect_to_url(path, tls)


func _current_token() -> String:
	if not token is Callable:
		return "" if token == null else str(token)
	if _held == "" or Time.get_unix_time_from_system() >= _renew_at:
		await _fetch_token()
	return _held


func _fetch_token() -> void:
	_renew_at = INF
	var made := str(await token.call()).strip_edges()
	if made == "" or made == "<null>":
		_renew_at = Time.get_unix_time_from_system() + 1.0
		return
	_held = made
	var left := _expiry(_held) - Time.get_unix_time_from_system()
	_renew_at = Time.get_unix_time_from_system() + left - minf(left / 4.0, TOKEN_MARGIN_S)


## When a token ends by its own word (RFC 7519, exp), Unix seconds; INF where it does not say.
func _expiry(by: String) -> float:
	var parts := by.split(".")
	if parts.size() != 3:
		return INF
	var text := parts[1].replace("-", "+").replace("_", "/")
	var claims: Variant = JSON.parse_string(Marshalls.base64_to_utf8(text + "=".repeat((4 - text.length() % 4) % 4)))
	return float(claims["exp"]) if claims is Dictionary and claims.has("exp") else INF


func _renew() -> void:
	if not token is Callable:
		_renew_at = INF
		return
	var before := _held
	await _fetch_token()
	if _held != before:
		control({"type": "token", "token": _held})


## A refusal ends it, unless a fresh token may be let in: once, until we are.
func _refuse(why: String) -> void:
	if token is Callable and not _retried:
		_retried = true
		_held = ""
		return
	_final = true
	refused = why


func _come_back() -> void:
	var now := Time.get_ticks_msec() / 1000.0
	if _retry_at == 0.0:
		_retry_at = now + _wait * randf_range(0.5, 1.0)
		_wait = minf(_wait * 2.0, BACKOFF_MAX_S)
	elif now >= _retry_at:
		_retry_at = 0.0
		_socket = WebSocketPeer.new()
		_socket.inbound_buffer_size = 1 << 20
		_connect()


func _take(packet: PackedByteArray) -> void:
	if packet.size() > 0 and packet[0] == CONTROL:
		_take_control(packet)
	elif packet.size() >= HEADER and packet[0] == FRAME:
		_take_frame(packet)


func _take_control(packet: PackedByteArray) -> void:
	var message: Variant = JSON.parse_string(packet.slice(1).get_string_from_utf8())
	if not message is Dictionary:
		return
	match message.get("type"):
		"welcome":
			_wait = BACKOFF_MIN_S
			_retried = false
			if int(message["epoch"]) != epoch or message.has("resume"):
				_resume = str(message.get("resume", ""))
			epoch = int(message["epoch"])
			if role == "publish" and not records.is_empty():
				tick += 1
				_send_parts(records, true)
		"resync":
			_reset_due = message.get("reason") == "seek"
		"durable":
			durable = {"epoch": int(message["epoch"]), "tick": int(message["tick"])}
		"bye":
			if message.get("reason") in ["expired", "revoked"]:
				_refuse("the grant of this session is %s" % message["reason"])
		"error":
			if message.get("code") in REFUSED:
				_refuse(str(message.get("message")))
			elif not str(message.get("code")).begins_with("store") and message.get("code") != "overloaded":
				_final = true
				refused = str(message.get("message"))
	told.emit(message)


func _take_frame(packet: PackedByteArray) -> void:
	var flags := packet[1]
	if flags & ZSTD:
		return  # never asked for
	var part := packet.decode_u16(2)
	var parts := packet.decode_u16(4)
	var stride := packet.decode_u16(6)
	var its_epoch := packet.decode_u32(8)
	var its_tick := packet.decode_u32(12)
	if flags & KEYFRAME and _reset_due:
		_reset_due = false
		records.clear(); _orders.clear(); _gone.clear(); _parts.clear()
		epoch = 0; tick = 0
	var keys: Array[int] = []
	var held := {}
	var at := HEADER
	while at < packet.size():
		var order := its_epoch << 32 | its_tick
		if flags & TICKS:
			order = its_epoch << 32 | packet.decode_u32(at)
			at += 4
		var key := packet.decode_u32(at)
		var length := stride
		if stride == 0:
			length = packet.decode_u32(at + 4)
			at += 8
		held[key] = true
		if length != REMOVED and at + length > packet.size():
			return  # malformed
		if order > _orders.get(key, _gone.get(key, -1)):
			keys.append(key)
			if length == REMOVED:
				records.erase(key); _orders.erase(key); _gone[key] = order
			else:
				records[key] = packet.slice(at, at + length)
				_orders[key] = order
				_gone.erase(key)
		if length != REMOVED:
			at += length
	var newest := its_epoch << 32 | its_tick
	if newest > (epoch << 32 | tick):
		epoch = its_epoch
		tick = its_tick
	if flags & KEYFRAME and parts > 0:
		keys.append_array(_keyframe_part(newest, part, parts, held))
	if _gone.size() > 65536:
		_gone.clear()
	if not keys.is_empty():
		changed.emit(keys)


func _keyframe_part(order: int, part: int, parts: int, held: Dictionary) -> Array[int]:
	if not _parts.has(order):
		_parts[order] = {"parts": {}, "keys": {}}
	_parts[order]["parts"][part] = true
	_parts[order]["keys"].merge(held)
	var dropped: Array[int] = []
	if _parts[order]["parts"].size() == parts:
		for key: int in _orders.keys():
			if _orders[key] < order and not _parts[order]["keys"].has(key):
				records.erase(key); _orders.erase(key)
				dropped.append(key)
		_parts.clear()
	return dropped


func _send_parts(changes: Dictionary, keyframe: bool) -> void:
	var groups := [[]]
	var size := HEADER
	for key: int in changes:
		var more: int = 8 + (0 if changes[key] == null else changes[key].size())
		if size + more > 65535 and not groups[-1].is_empty():
			groups.append([])
			size = HEADER
		groups[-1].append(key)
		size += more
	for part in groups.size():
		var out := StreamPeerBuffer.new()
		out.put_u8(FRAME)
		out.put_u8(KEYFRAME if keyframe else 0)
		out.put_u16(part)
		out.put_u16(groups.size())
		out.put_u16(0)
		out.put_u32(epoch)
		out.put_u32(tick)
		out.put_u64(int(Time.get_unix_time_from_system() * 1_000_000))
		for key: int in groups[part]:
			out.put_u32(key)
			if changes[key] == null:
				out.put_u32(REMOVED)
			else:
				out.put_u32(changes[key].size())
				out.put_data(changes[key])
		_socket.send(out.data_array)
