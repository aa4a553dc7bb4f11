class_name MVGatewayUDP
extends RefCounted
## Publish from a stock Godot server to the gateway beside it by plain UDP packets (loopback only).
##
##   gateway:  mvgateway serve --udp 127.0.0.1:4434
##
##   var arena: MVGatewayUDP = MVGatewayUDP.open("http://127.0.0.1:7080", "arena")
##   arena.send(tick, {7: bytes})      # each tick; key -> PackedByteArray, null removes
##
## It asks the gateway for its packet token by HTTP, looks a few times a second whether that still counts, and after a
## restart of the gateway asks for another and begins with a keyframe. Nothing waits: it is all done within
## [method send], or [method poll] where nothing is to be sent. UDP brings nothing back but what that look tells: that
## an entity went to sleep or woke is told to publishers by WebSocket (MVGateway) alone.
## With a token that was fetched by other means: MVGatewayUDP.new(host, port, token_hex). This file needs no other.

## A packet token came: from here on frames arrive. The first is a keyframe.
signal connected
## The gateway is gone, or has forgotten the token; another one is asked for.
signal disconnected(reason: String)
## Nothing will be published: [param code] as docs/API.md names it, [param detail] in the gateway's words.
signal refused(code: String, detail: String)
## Everything up to there is in the store.
signal durable_moved(epoch: int, tick: int)
## A record is larger than any packet and was left out.
signal unsent(key: int, bytes: int, bytes_max: int)

const FRAME: int = 1
const KEYFRAME: int = 1
const REMOVED: int = 0xFFFFFFFF
const HEADER: int = 24
const PACKET_MAX: int = 1400           ## of a frame's packets, but where one record is larger
const KEYFRAME_PACKET_MAX: int = 16_384
const RECORD_BYTES_MAX: int = 65_507 - 8 - HEADER - 8
const TOKEN_BYTES: int = 8
const LOOK_S: float = 0.5
const ANSWER_S_MAX: float = 5.0
const BACKOFF_MIN_S: float = 0.1
const BACKOFF_MAX_S: float = 2.0
const GHOST_S: float = 40.0            ## so long a token may still stand whose answer never came
const STEPS_MAX: int = 8

var url: String = ""
var world: String = ""
## As MVGateway.token.
var token: Variant = null
var ca_file: String = ""
var insecure: bool = false
## key -> PackedByteArray: what this publisher has said.
var records: Dictionary = {}
var epoch: int = 0
var tick: int = 0
var durable: Dictionary = {}
var refusal: String = ""
## True while the gateway is known to take what is sent.
var is_open: bool = false

var _peer: PacketPeerUDP = PacketPeerUDP.new()
var _token: PackedByteArray
var _http: HTTPClient = null
var _doing: String = ""      # "ask", "look" or nothing
var _since_s: float = 0.0
var _next_s: float = 0.0
var _wait_s: float = BACKOFF_MIN_S
var _body: PackedByteArray
var _unanswered_s: float = -INF
var _by: String = ""
var _fetching: bool = false
var _retried: bool = false
var _over: int = 0           # what the caller's ticks are raised by
var _keyframe_due: bool = false
var _closed: bool = false


## With all three: a token that was fetched by other means. Without: [method open].
func _init(host: String = "", port: int = 0, token_hex: String = "") -> void:
	if token_hex != "":
		_token = token_hex.hex_decode()
		is_open = _peer.connect_to_host(host, port) == OK


## A publisher that asks for its own token. [param by]: a String, or a Callable that answers a fresh one.
static func open(gateway: String, its_world: String, ca: String = "", by: Variant = null) -> MVGatewayUDP:
	var made: MVGatewayUDP = MVGatewayUDP.new()
	made.url = gateway
	made.world = its_world
	made.ca_file = ca
	made.token = by
	made.poll()
	return made


## One frame: key -> PackedByteArray, null removes. Ticks rise; 0 or less: the next one. [param keyframe]: these are all
## records. Answers its tick, which is above [param its_tick] where the gateway has changed the world itself meanwhile.
func send(its_tick: int, changes: Dictionary, keyframe: bool = false) -> int:
	poll()
	tick = maxi(tick + 1, its_tick + _over if its_tick > 0 else 0)
	if is_same(changes, records):
		changes = records.duplicate()
	if keyframe:
		records.clear()
	var left_out: Array[int] = []
	for key: int in changes:
		var value: Variant = changes[key]
		if value == null:
			var _was: bool = records.erase(key)
			continue
		var data: PackedByteArray = value
		if data.size() > RECORD_BYTES_MAX:
			left_out.append(key)
			push_error("record %d of %s is left out: %d bytes, and a UDP packet holds %d; split it, or publish by MVGateway" % [key, world, data.size(), RECORD_BYTES_MAX])
			unsent.emit(key, data.size(), RECORD_BYTES_MAX)
		else:
			records[key] = data
	if not left_out.is_empty():
		changes = changes.duplicate()
		for key: int in left_out:
			var _was: bool = changes.erase(key)
	if is_open and _keyframe_due:
		_keyframe_due = false
		_send_parts(records, KEYFRAME, KEYFRAME_PACKET_MAX)
	elif is_open:
		_send_parts(changes, KEYFRAME if keyframe else 0, PACKET_MAX)
	return tick


## Look after the token. [method send] does it; call it where nothing is sent for a while.
func poll() -> void:
	if url == "" or refusal != "" or _closed:
		return
	for step: int in STEPS_MAX:
		if not _step():
			return


## Publish no more.
func close() -> void:
	_closed = true
	is_open = false
	_token.clear()
	_peer.close()
	if _http != null:
		_http.close()
		_http = null


# --- asking


## One step of the conversation; true where another may follow at once.
func _step() -> bool:
	var now: float = Time.get_ticks_msec() / 1000.0
	if _http == null:
		return now >= _next_s and _dial(now)
	var _failed: Error = _http.poll()
	match _http.get_status():
		HTTPClient.STATUS_RESOLVING, HTTPClient.STATUS_CONNECTING, HTTPClient.STATUS_REQUESTING:
			if now - _since_s > ANSWER_S_MAX:
				_lost("no answer within %d s" % int(ANSWER_S_MAX))
			return false
		HTTPClient.STATUS_CONNECTED:
			if _doing != "":
				_answered(now)
				return true
			return now >= _next_s and _say(now)
		HTTPClient.STATUS_BODY:
			var piece: PackedByteArray = _http.read_response_body_chunk()
			_body.append_array(piece)
			if now - _since_s > ANSWER_S_MAX:
				_lost("no answer within %d s" % int(ANSWER_S_MAX))
				return false
			return not piece.is_empty() or _http.get_status() != HTTPClient.STATUS_BODY
		_:
			_lost("the connection broke")
			return false


func _dial(now: float) -> bool:
	var secure: bool = url.begins_with("https://") or url.begins_with("wss://")
	var place: String = url.get_slice("://", 1).get_slice("/", 0)
	var host: String = place
	var port: int = 443 if secure else 80
	var colon: int = place.rfind(":")
	if colon > place.rfind("]"):
		host = place.substr(0, colon)
		port = place.substr(colon + 1).to_int()
	var tls: TLSOptions = null
	if secure and insecure:
		tls = TLSOptions.client_unsafe()
	elif secure and ca_file != "":
		var certificate: X509Certificate = X509Certificate.new()
		if certificate.load(ca_file) != OK:
			_refuse("config", "no certificate can be read from %s" % ca_file)
			return false
		tls = TLSOptions.client(certificate)
	elif secure:
		tls = TLSOptions.client()
	_http = HTTPClient.new()
	_since_s = now
	if _http.connect_to_host(host, port, tls) != OK:
		_lost("%s cannot be reached" % url)
		return false
	return true


func _say(now: float) -> bool:
	if token is Callable and _by == "":
		if not _fetching:
			@warning_ignore("missing_await")
			_fetch()
		return false
	var by: String = _by if token is Callable else ("" if token == null else str(token))
	var headers: PackedStringArray = ["Accept: application/json", "Content-Length: 0"]
	if by != "":
		headers = ["Accept: application/json", "Content-Length: 0", "Authorization: Bearer " + by]
	_doing = "look" if _token.size() == TOKEN_BYTES else "ask"
	_since_s = now
	_body = PackedByteArray()
	var path: String = "/v1/worlds/" + world.uri_encode()
	var failed: Error = OK
	if _doing == "look":
		failed = _http.request(HTTPClient.METHOD_GET, path, headers)
	else:
		failed = _http.request(HTTPClient.METHOD_POST, path + "/udp", headers)
	if failed != OK:
		_lost("the connection broke")
	return failed == OK


func _fetch() -> void:
	_fetching = true
	var source: Callable = token
	@warning_ignore("redundant_await")
	_by = str(await source.call()).strip_edges()
	_fetching = false
	if _by == "" or _by == "<null>":
		_by = ""
		_next_s = Time.get_ticks_msec() / 1000.0 + 1.0


func _answered(now: float) -> void:
	var doing: String = _doing
	_doing = ""
	_next_s = now + LOOK_S
	var code: int = _http.get_response_code()
	var read: Variant = JSON.parse_string(_body.get_string_from_utf8())
	var facts: Dictionary = {}
	if read is Dictionary:
		facts = read
	if code >= 400:
		_told_no(doing, code, facts, now)
	elif doing == "ask":
		_begin(facts)
	else:
		_look_at(facts)


func _begin(facts: Dictionary) -> void:
	_token = str(facts.get("token")).hex_decode()
	epoch = _int_of(facts, "epoch")
	_peer.close()
	if _token.size() != TOKEN_BYTES or _peer.connect_to_host(str(facts.get("host")), _int_of(facts, "port")) != OK:
		_refuse("config", "%s answered no packet token" % url)
		return
	is_open = true
	_retried = false
	_unanswered_s = -INF
	_wait_s = BACKOFF_MIN_S
	_keyframe_due = true
	connected.emit()


func _look_at(facts: Dictionary) -> void:
	var its_epoch: int = _int_of(facts, "epoch")
	var publisher: Variant = facts.get("publisher")
	if facts.get("durable") is Dictionary:
		var mark: Dictionary = facts["durable"]
		var moved_to: Dictionary = {"epoch": _int_of(mark, "epoch"), "tick": _int_of(mark, "tick")}
		if moved_to != durable:
			durable = moved_to
			durable_moved.emit(_int_of(mark, "epoch"), _int_of(mark, "tick"))
	if publisher == null:
		_forgotten("the gateway knows this publisher no more")
		return
	if its_epoch != epoch:
		_refuse("taken_over", "another publisher took the world over")
		return
	if _int_of(facts, "tick") > tick:
		_over += _int_of(facts, "tick") - tick
		tick = _int_of(facts, "tick")
	_wait_s = BACKOFF_MIN_S
	if not is_open:  # the connection alone had broken
		is_open = true
		_keyframe_due = true
		connected.emit()


func _told_no(doing: String, code: int, facts: Dictionary, now: float) -> void:
	var why: String = str(facts.get("code", "http_%d" % code))
	var detail: String = str(facts.get("detail", why))
	if doing == "look" and code in [401, 403, 404]:
		_forgotten(detail)
		return
	if code in [401, 403] and token is Callable and not _retried:
		_retried = true
		_by = ""
		return
	var ghost: bool = why == "publisher_present" and now - _unanswered_s < GHOST_S
	if code < 500 and code != 429 and facts.get("retry") != true and not ghost:
		_refuse(why, detail)
		return
	_next_s = now + _wait_s
	_wait_s = minf(_wait_s * 2.0, BACKOFF_MAX_S)


## The connection is gone, and with it perhaps the gateway: look again as soon as there is one.
func _lost(why: String) -> void:
	var now: float = Time.get_ticks_msec() / 1000.0
	if _doing == "ask":
		_unanswered_s = now
	_doing = ""
	_http = null
	_next_s = now + _wait_s * randf_range(0.5, 1.0)
	_wait_s = minf(_wait_s * 2.0, BACKOFF_MAX_S)
	_gone(why)


## The packet token counts no more: ask for another.
func _forgotten(why: String) -> void:
	_token.clear()
	_by = ""  # a grant that has ended may be why
	_next_s = 0.0
	_gone(why)


func _gone(why: String) -> void:
	if is_open:
		is_open = false
		disconnected.emit(why)


func _refuse(why: String, detail: String) -> void:
	is_open = false
	refusal = detail
	if _http != null:
		_http.close()
		_http = null
	refused.emit(why, detail)


static func _int_of(of: Dictionary, field: String) -> int:
	var found: Variant = of.get(field)
	if found is float:
		var number: float = found
		return int(number)
	return found if found is int else 0


# --- sending


func _send_parts(changes: Dictionary, flags: int, packet_max: int) -> void:
	var groups: Array[Array] = [[]]
	var size: int = HEADER
	for key: int in changes:
		var value: Variant = changes[key]
		var more: int = 8
		if value != null:
			var data: PackedByteArray = value
			more += data.size()
		if size + more > packet_max and not groups[-1].is_empty():
			groups.append([])
			size = HEADER
		groups[-1].append(key)
		size += more
	for part: int in groups.size():
		var out: StreamPeerBuffer = StreamPeerBuffer.new()
		var _failed: Error = out.put_data(_token)
		out.put_u8(FRAME)
		out.put_u8(flags)
		out.put_u16(part)
		out.put_u16(groups.size())
		out.put_u16(0)
		out.put_u32(0)
		out.put_u32(tick)
		out.put_u64(int(Time.get_unix_time_from_system() * 1_000_000))
		for key: int in groups[part]:
			var value: Variant = changes[key]
			out.put_u32(key)
			if value == null:
				out.put_u32(REMOVED)
			else:
				var data: PackedByteArray = value
				out.put_u32(data.size())
				_failed = out.put_data(data)
		_failed = _peer.put_packet(out.data_array)
