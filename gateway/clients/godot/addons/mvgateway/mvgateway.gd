@icon("res://addons/mvgateway/icons/world.svg")
class_name MVGateway
extends "res://addons/mvgateway/mvgateway_session.gd"
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
