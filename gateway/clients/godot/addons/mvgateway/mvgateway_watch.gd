class_name MVGatewayWatch
extends RefCounted
## Entities of a world or an inventory as they change: see [method MVGatewayEntities.watch].

## An entity was stored, or came to match the filter: id, class, owner, tags, key, revision, value …
signal stored(entity: Dictionary)
## An entity is gone: deleted, or to the world [param moved_to].
signal gone(id: String, moved_to: String)
## Forget all that you knew; what follows is everything.
signal reset
## Everything up to there was told.
signal reached(revision: int)
## No change will follow.
signal refused(code: String, detail: String)

const BACKOFF_MIN_S: float = 0.05
const BACKOFF_MAX_S: float = 2.0
const MESSAGE_BYTES_MAX: int = (16 << 20) + 65_536
const PIECES_A_FRAME: int = 64

## Where nothing came for so long, the connection is made anew from [member revision] on: a dead path looks the same.
var quiet_s: float = 20.0
var revision: int
var is_open: bool = false

var _entities: MVGatewayEntities
var _path: String
var _filters: Dictionary
var _closed: bool = false


func _init(entities: MVGatewayEntities, path: String, since: int, filters: Dictionary) -> void:
	_entities = entities
	_path = path
	_filters = filters
	revision = since
	@warning_ignore("missing_await")
	_go_on()


func close() -> void:
	_closed = true


func _go_on() -> void:
	var wait_s: float = BACKOFF_MIN_S
	while not _closed:
		var began: int = Time.get_ticks_msec()
		await _once()
		is_open = false
		if _closed:
			return
		if Time.get_ticks_msec() - began > 5000:
			wait_s = BACKOFF_MIN_S
		var tree: SceneTree = Engine.get_main_loop()
		await tree.create_timer(wait_s * randf_range(0.5, 1.0)).timeout
		wait_s = minf(wait_s * 2.0, BACKOFF_MAX_S)


## One connection, to its end.
func _once() -> void:
	var query: Dictionary = _filters.duplicate()
	if revision >= 0:
		query["since"] = revision
	var http: HTTPClient = await _entities.http.dial()
	if http == null:
		return
	var said: PackedStringArray = ["Accept: " + MVGatewayEntities.ENTITIES_TYPE]
	said += await _entities.http.authorization()
	if http.request(HTTPClient.METHOD_GET, _path + MVGatewayEntities._query(query), said) != OK:
		return
	var waiting: PackedByteArray = []
	var heard_ms: int = Time.get_ticks_msec()
	while not _closed:
		if revision >= 0 and Time.get_ticks_msec() - heard_ms > int(quiet_s * 1000.0):
			break
		for piece: int in PIECES_A_FRAME:
			var _failed: Error = http.poll()
			var status: HTTPClient.Status = http.get_status()
			if status == HTTPClient.STATUS_REQUESTING:
				break
			if status != HTTPClient.STATUS_BODY:
				return
			var come: PackedByteArray = http.read_response_body_chunk()
			if come.is_empty():
				break
			waiting.append_array(come)
			heard_ms = Time.get_ticks_msec()
			if http.get_response_code() < 400:
				is_open = true
				waiting = _take_all(waiting)
		if http.has_response() and http.get_response_code() >= 400:
			await _refuse(http, waiting)
			return
		await MVGatewayHTTP._frame()
	http.close()


## What of it is no whole message yet.
func _take_all(waiting: PackedByteArray) -> PackedByteArray:
	var at: int = 0
	while at + 4 <= waiting.size():
		var length: int = waiting.decode_u32(at)
		if length > MESSAGE_BYTES_MAX:
			close()
			return PackedByteArray()
		if at + 4 + length > waiting.size():
			break
		_take(waiting.slice(at + 4, at + 4 + length))
		at += 4 + length
	return waiting.slice(at)


func _take(message: PackedByteArray) -> void:
	if message[0] == MVGatewayEntities.ENTITY:
		var head: Dictionary = MVGatewayEntities.entity_in(message)
		if head.get("op") == "put":
			stored.emit(head)
		elif not head.is_empty():
			gone.emit(str(head["id"]), str(head.get("moved_to", "")))
		return
	var control: Dictionary = MVGatewayEntities.control_in(message)
	if control.get("type") == "error":
		_closed = true
		refused.emit(str(control.get("code")), str(control.get("message")))
	elif control.has("revision"):
		revision = MVGateway._int_of(control, "revision")
		if control.get("type") == "reset":
			reset.emit()
		reached.emit(revision)


func _refuse(http: HTTPClient, so_far: PackedByteArray) -> void:
	var answer: MVGatewayAnswer = MVGatewayAnswer.new()
	answer.body = so_far
	while http.get_status() == HTTPClient.STATUS_BODY:
		answer.body.append_array(http.read_response_body_chunk())
		var _failed: Error = http.poll()
		await MVGatewayHTTP._frame()
	answer.take(http.get_response_code(), http.get_response_headers())
	if answer.status < 500 and answer.status != 429:
		_closed = true
		refused.emit(answer.code, answer.detail)
