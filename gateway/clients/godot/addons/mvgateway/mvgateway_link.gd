extends "res://addons/mvgateway/mvgateway_reader.gd"
## The connection: which gateway and world it is for, what is sent over it, and how it is let go of. [MVGateway] stands on it.

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
