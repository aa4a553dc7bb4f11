extends Node
class_name MVGateway
# A reader of a world of mvgateway by WebSocket, for Godot 3.6. It is connected while it is in the tree, paused or not, until close().
#
#     var arena = MVGateway.new()
#     arena.url = "wss://127.0.0.1:4433"
#     arena.world = "arena"
#     arena.ca_file = "res://ca.crt"
#     arena.connect("changed", self, "_on_changed")
#     add_child(arena)
#
# Values that Godot 3 wrote by var2bytes are read by value_of(key, 3), those of Godot 4's var_to_bytes by value_of(key, 4): nothing in the bytes
# tells which it was, so it is said.

signal connected
signal welcomed
# keys whose records changed; removed ones are no longer in `records`
signal changed(keys)
signal disconnected(reason)
# no session follows until open()
signal refused(code, detail)
signal moved(world)
# a control message
signal told(message)

enum Status { OFF, CONNECTING, CONNECTED, WAITING, REFUSED }

const State := preload("mvgateway_state.gd")
const Variant4 := preload("mvgateway_variant4.gd")
const CONTROL := 16
const INBOUND_KB := 8192
const INBOUND_PACKETS := 8192
const OUTBOUND_KB := 256
const OUTBOUND_PACKETS := 64
const CONNECT_S_MAX := 5.0
const QUIET_S := 1.5          # then the gateway is asked by ping
const DEAD_S := 5.0
const BACKOFF_MIN_S := 0.05
const BACKOFF_MAX_S := 2.0
const HOPS_MAX := 4
const BY_TIME := ["", "error", "bye", "too_slow", "conflict", "overloaded", "too_many", "crowded", "shutting_down", "world_deleted", "store",
	"store_unavailable", "store_damaged", "transfer_failed", "too_early", "world_held"]
const CLOSE_CODES := {4001: "error", 4002: "shutting_down", 4003: "taken_over", 4004: "publisher_present", 4005: "malformed", 4006: "too_slow",
	4007: "world_held", 4008: "grant_ended", 4009: "unauthorized", 1009: "too_large"}

export var url := "wss://127.0.0.1:4433"
export var world := "arena"
export(String, FILE, "*.crt, *.pem") var ca_file := ""
export var insecure := false
export var budget_kbps := 0
export var follow := ""
export var delay_s := 0.0
# By which the gateway lets us in: a String, or a FuncRef that answers a fresh one before the old one ends (at each new connection).
var token = ""

var records setget , _records
var epoch setget , _epoch
var tick setget , _tick
var status: int = Status.OFF
var refusal := ""             # why no session follows
var trouble := ""             # why the newest attempt ended
var welcome := {}
var address := ""

var _state = State.new()
var _socket: WebSocketClient = null
var _wanted := true
var _since := 0.0
var _heard := 0.0
var _asked := 0.0
var _retry_at := 0.0
var _wait_s := BACKOFF_MIN_S
var _asked_wait_s := 0.0
var _close_code := -1
var _close_reason := ""
var _ended_by := []
var _hops := 0
var _let_in := false


func _init() -> void:
	pause_mode = PAUSE_MODE_PROCESS


func _enter_tree() -> void:
	if _wanted and refusal == "":
		open()


func _exit_tree() -> void:
	_leave("removed")
	if status != Status.REFUSED:
		status = Status.OFF


# Connect (again), after close() or a refusal.
func open() -> void:
	_wanted = true
	refusal = ""
	_hops = 0
	_wait_s = BACKOFF_MIN_S
	_retry_at = 0.0
	address = ""
	if _socket == null:
		status = Status.WAITING


# End the session, and stay away until open().
func close() -> void:
	_wanted = false
	_leave("closed")
	status = Status.OFF


# Another world: nothing of what was remains.
func go_to(other: String) -> void:
	_leave("asked anew")
	world = other
	_forget()
	if is_inside_tree() and _wanted:
		open()


# These records matter more or less: key -> weight.
func focus(weights: Dictionary) -> void:
	control({"type": "focus", "keys": weights.keys(), "weights": weights.values()})


func control(message: Dictionary) -> void:
	if _socket != null and status == Status.CONNECTED:
		var body := PoolByteArray([CONTROL])
		body.append_array(JSON.print(message).to_utf8())
		var _failed := _socket.get_peer(1).put_packet(body)


# A record's Variant, by which Godot wrote it: 3 or 4. null where there is none, or where it is none.
func value_of(key: int, godot: int):
	if not _state.records.has(key):
		return null
	return decoded(_state.records[key], godot)


# A Variant from its bytes, as Godot 3 or 4 wrote them. Objects are never made.
static func decoded(bytes: PoolByteArray, godot: int):
	if godot == 4:
		return Variant4.decode(bytes)
	if bytes.size() < 4 or bytes[0] > 26 or bytes[0] == 17:
		return null
	return bytes2var(bytes)


func _records() -> Dictionary:
	return _state.records


func _epoch() -> int:
	return _state.epoch


func _tick() -> int:
	return _state.tick


func _process(_delta: float) -> void:
	if _socket == null:
		if _wanted and refusal == "" and _now() >= _retry_at:
			_connect()
		return
	var socket: WebSocketClient = _socket
	socket.poll()
	if socket != _socket:
		return
	if status == Status.CONNECTED:
		var peer: WebSocketPeer = socket.get_peer(1)
		var packets := 0
		while socket == _socket and packets < INBOUND_PACKETS and peer.get_available_packet_count() > 0:
			packets += 1
			_heard = _now()
			_take(peer.get_packet())
		_watch()
	elif _now() - _since > CONNECT_S_MAX:
		_closed("no answer from %s within %d s" % [address, int(CONNECT_S_MAX)])


func _watch() -> void:
	if _socket == null or status != Status.CONNECTED:
		return
	var silent := _now() - _heard
	if silent > DEAD_S:
		_closed("nothing was heard for %d s" % int(DEAD_S))
	elif silent > QUIET_S and _now() - _asked > 1.0:
		_asked = _now()
		control({"type": "ping"})


func _connect() -> void:
	if world == "" or url == "":
		return
	if address == "":
		address = _base(url)
	var by := str(token.call_func()) if token is FuncRef else str(token)
	by = by.strip_edges()
	if by != "" and address.begins_with("ws://") and not _is_loopback(address):
		_refuse("config", "a token would go to %s in clear text, for everybody on the way to read; use wss://" % address)
		return
	_since = _now()
	_let_in = false
	_ended_by = []
	_close_code = -1
	_close_reason = ""
	_asked_wait_s = 0.0
	status = Status.CONNECTING
	_socket = WebSocketClient.new()
	var _failed: int = _socket.set_buffers(INBOUND_KB, INBOUND_PACKETS, OUTBOUND_KB, OUTBOUND_PACKETS)
	if insecure:
		_socket.verify_ssl = false
	elif ca_file != "":
		var certificate := X509Certificate.new()
		if certificate.load(ca_file) != OK:
			_refuse("config", "no certificate can be read from %s; export it with the game as a .crt" % ca_file)
			return
		_socket.trusted_ssl_certificate = certificate
	for pair in [["connection_established", "_opened"], ["connection_error", "_failed"], ["connection_closed", "_ended"], ["server_close_request", "_asked_to_close"]]:
		_failed = _socket.connect(pair[0], self, pair[1], [_socket])
	var headers := PoolStringArray(["Authorization: Bearer " + by]) if by != "" else PoolStringArray()
	if _socket.connect_to_url(address + _path(), PoolStringArray(), false, headers) != OK:
		_refuse("config", "%s is no address of a gateway" % address)


func _path() -> String:
	var path := "/v1/worlds/%s/live?role=subscribe" % world.percent_encode()
	if delay_s > 0.0:
		path += "&delay_s=%.3f" % delay_s
	if budget_kbps > 0:
		path += "&budget_kbps=%d" % budget_kbps
	if follow != "":
		path += "&follow=" + follow.percent_encode()
	return path


func _opened(_protocol: String, socket: WebSocketClient) -> void:
	if socket == _socket:
		_socket.get_peer(1).set_write_mode(WebSocketPeer.WRITE_MODE_BINARY)
		status = Status.CONNECTED
		trouble = ""
		_heard = _now()
		emit_signal("connected")


func _failed(socket: WebSocketClient) -> void:
	if socket == _socket:
		_closed("%s did not answer, refused, or is not trusted by ca_file" % address)


func _asked_to_close(code: int, reason: String, socket: WebSocketClient) -> void:
	if socket == _socket:
		_close_code = code
		_close_reason = reason


func _ended(_clean: bool, socket: WebSocketClient) -> void:
	if socket == _socket:
		# What came before the end is read still: a refusal's words are the last of it.
		var peer: WebSocketPeer = socket.get_peer(1)
		while peer != null and peer.get_available_packet_count() > 0 and socket == _socket:
			_take(peer.get_packet())
		if socket == _socket:
			_closed(_close_reason if _close_reason != "" else "the connection broke")


func _leave(why: String) -> void:
	var was: WebSocketClient = _socket
	_socket = null
	if was != null:
		was.disconnect_from_host()
		if status == Status.CONNECTED:
			emit_signal("disconnected", why)


func _closed(why: String) -> void:
	var was_open: bool = status == Status.CONNECTED
	var code := ""
	var detail := why
	if _ended_by.size() == 2:
		code = _ended_by[0]
		detail = _ended_by[1]
	elif CLOSE_CODES.has(_close_code):
		code = CLOSE_CODES[_close_code]
	if _socket != null and was_open:
		_socket.disconnect_from_host()
	_socket = null
	status = Status.WAITING
	trouble = detail
	if was_open:
		emit_signal("disconnected", detail)
		if _socket != null or not _wanted or not is_inside_tree():
			return
	_judge(code, detail)


# What comes after a session that ended so: another one at once, later, or none.
func _judge(code: String, detail: String) -> void:
	if code == "moved":
		_retry_at = 0.0
		return
	if not code in BY_TIME:
		_refuse(code, detail)
		return
	_hops = 0
	if not _let_in:
		address = ""
	_retry_at = _now() + max(_asked_wait_s, _wait_s * rand_range(0.5, 1.0))
	_wait_s = min(_wait_s * 2.0, BACKOFF_MAX_S)


func _refuse(code: String, detail: String) -> void:
	_leave(detail)
	status = Status.REFUSED
	refusal = detail if detail != "" else code
	emit_signal("refused", code, refusal)


func _take(packet: PoolByteArray) -> void:
	if packet.size() > 0 and packet[0] == CONTROL:
		_take_control(packet)
		return
	var keys: Array = _state.take(packet)
	if not keys.empty():
		emit_signal("changed", keys)


func _take_control(packet: PoolByteArray) -> void:
	if packet.size() < 2:
		return
	var text := packet.subarray(1, packet.size() - 1).get_string_from_utf8()
	if validate_json(text) != "":   # which, unlike a failed parse, the engine doesn't log
		return
	var read: JSONParseResult = JSON.parse(text)
	if read.error != OK or typeof(read.result) != TYPE_DICTIONARY or not read.result.has("type"):
		return
	var message: Dictionary = read.result
	match message["type"]:
		"welcome":
			welcome = message
			_let_in = true
			_wait_s = BACKOFF_MIN_S
			_hops = 0
			emit_signal("welcomed")
		"resync":
			_state.reset_due = message.get("reason") == "seek"
		"moved":
			var to := str(message.get("world", ""))
			if to != "" and to != world:
				world = to
				_forget()
			emit_signal("moved", world)
		"bye":
			_take_bye(message)
		"error":
			_ended_by = [str(message.get("code")), str(message.get("message"))]
			if message.get("code") == "world_held" and _go_on_at(str(message.get("url", ""))):
				_ended_by[0] = "moved"
	emit_signal("told", message)


func _take_bye(message: Dictionary) -> void:
	var reason := str(message.get("reason"))
	if typeof(message.get("reconnect_after_ms")) == TYPE_REAL:
		_asked_wait_s = clamp(message["reconnect_after_ms"] / 1000.0, 0.0, BACKOFF_MAX_S)
	match reason:
		"taken_over", "takeover", "reconnected":
			_ended_by = ["taken_over", "another publisher took the world over"]
		"expired", "revoked":
			_ended_by = ["grant_ended", "the gateway ended this session: its grant is %s" % reason]
			if token is FuncRef and _let_in:
				_ended_by[0] = "bye"   # the next connection asks for a fresh one
		"moved":
			_ended_by = ["world_held", "%s has its home at %s" % [world, message.get("url", "")]]
			if _go_on_at(str(message.get("url", ""))):
				_ended_by[0] = "moved"
		_:
			_ended_by = ["bye", "the gateway said bye: " + reason]


func _go_on_at(there: String) -> bool:
	var to := _base(there)
	if to == "" or to == address or _hops >= HOPS_MAX or (_base(url).begins_with("wss://") and not to.begins_with("wss://")):
		return false
	_hops += 1
	address = to
	return true


func _forget() -> void:
	var keys: Array = _state.records.keys()
	_state = State.new()
	if not keys.empty():
		emit_signal("changed", keys)


static func _base(whole: String) -> String:
	var parts := whole.strip_edges().split("://")
	if parts.size() != 2 or parts[1] == "":
		return ""
	var scheme: String = {"https": "wss", "http": "ws"}.get(parts[0], parts[0])
	return scheme + "://" + parts[1].get_slice("/", 0) if scheme in ["ws", "wss"] else ""


static func _is_loopback(there: String) -> bool:
	var host := there.get_slice("://", 1)
	host = host.get_slice("]", 0) + "]" if host.begins_with("[") else host.get_slice(":", 0)
	return host == "localhost" or host == "[::1]" or host.begins_with("127.")


static func _now() -> float:
	return OS.get_ticks_msec() / 1000.0
