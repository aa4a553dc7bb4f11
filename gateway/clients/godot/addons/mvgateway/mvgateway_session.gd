extends "res://addons/mvgateway/mvgateway_publisher.gd"
## What comes in a session, and what it means. [MVGateway] stands on it.

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
