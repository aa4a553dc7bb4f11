class_name MVGatewayHTTP
extends RefCounted
## Requests to a gateway over one connection that is kept alive, each answered by [code]await[/code]. Requests wait
## their turn; a connection that broke meanwhile is made anew.

const ANSWER_S_MAX: float = 15.0
const CONNECT_S_MAX: float = 5.0
const POLLS_A_FRAME: int = 16
const BODY_BYTES_MAX: int = 64 << 20

## https://host:port, or http:// for the clear-text port of this machine.
var url: String
## As MVGateway.token.
var token: Variant = null
var ca_file: String = ""
var insecure: bool = false
## Sent with every request.
var headers: PackedStringArray = []

var _http: HTTPClient = null
var _turns: int = 0    # handed out
var _turn: int = 0     # whose it is
var _held: String = ""
var _renew_at: float = INF


func _init(gateway: String = "", ca: String = "", by: Variant = null) -> void:
	url = gateway
	ca_file = ca
	token = by


## Send a request and wait for its answer, whatever it is. Never fails otherwise: what got no answer has status 0.
func ask(method: HTTPClient.Method, path: String, more: PackedStringArray = [],
		body: PackedByteArray = PackedByteArray()) -> MVGatewayAnswer:
	var mine: int = _turns
	_turns += 1
	while _turn != mine:
		await _frame()
	var answer: MVGatewayAnswer = await _ask(method, path, more, body)
	if answer.status == 401 and token is Callable:
		_held = ""
		answer = await _ask(method, path, more, body)
	_turn += 1
	return answer


## The same with JSON both ways.
func ask_json(method: HTTPClient.Method, path: String, members: Variant = null) -> MVGatewayAnswer:
	if members == null:
		return await ask(method, path, ["Accept: application/json"])
	var said: PackedStringArray = ["Accept: application/json", "Content-Type: application/json"]
	return await ask(method, path, said, JSON.stringify(members).to_utf8_buffer())


## Let go of the connection.
func close() -> void:
	if _http != null:
		_http.close()
		_http = null


## What to send so that the gateway lets us in; empty where there is no token.
func authorization() -> PackedStringArray:
	var by: String = "" if token == null else str(token)
	if token is Callable:
		if _held == "" or Time.get_unix_time_from_system() >= _renew_at:
			var source: Callable = token
			@warning_ignore("redundant_await")
			_held = str(await source.call()).strip_edges()
			var left: float = MVGateway._expiry(_held) - Time.get_unix_time_from_system()
			_renew_at = Time.get_unix_time_from_system() + left - minf(maxf(left, 0.0) / 4.0, MVGateway.TOKEN_MARGIN_S)
		by = _held
	by = by.strip_edges()
	if by != "" and url.begins_with("http://") and not MVGateway._is_loopback(url):
		push_error("no token goes to %s in clear text, for everybody on the way to read; use https://" % url)
		return []
	return ["Authorization: Bearer " + by] if by != "" else []


## A connection of its own, dialled: for streams. Null where there is none.
func dial() -> HTTPClient:
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
		var certificate: X509Certificate = MVGateway._certificate(ca_file)
		if certificate == null:
			push_error("no certificate can be read from %s; export it with the game as a .crt" % ca_file)
			return null
		tls = TLSOptions.client(certificate)
	elif secure:
		tls = TLSOptions.client()
	var made: HTTPClient = HTTPClient.new()
	if made.connect_to_host(host, port, tls) != OK:
		return null
	var end: int = Time.get_ticks_msec() + int(CONNECT_S_MAX * 1000.0)
	while Time.get_ticks_msec() < end:
		var _failed: Error = made.poll()
		match made.get_status():
			HTTPClient.STATUS_CONNECTED:
				return made
			HTTPClient.STATUS_RESOLVING, HTTPClient.STATUS_CONNECTING:
				await _frame()
			_:
				return null
	made.close()
	return null


func _ask(method: HTTPClient.Method, path: String, more: PackedStringArray, body: PackedByteArray) -> MVGatewayAnswer:
	var said: PackedStringArray = headers + more + await authorization()
	if body.is_empty() and method != HTTPClient.METHOD_GET:
		MVGateway._ok(said.append("Content-Length: 0"))
	for attempt: int in 2:
		var reused: bool = _is_there()
		if not reused:
			_http = await dial()
		if _http == null:
			break
		if _http.request_raw(method, path, said, body) == OK:
			var answer: MVGatewayAnswer = await _answer()
			if answer.status > 0:
				return answer
		close()
		var again: bool = method in [HTTPClient.METHOD_GET, HTTPClient.METHOD_PUT, HTTPClient.METHOD_DELETE]
		if not reused or not again:
			break
	return MVGatewayAnswer.unanswered("no answer from %s" % url)


func _is_there() -> bool:
	if _http == null:
		return false
	var _failed: Error = _http.poll()
	if _http.get_status() == HTTPClient.STATUS_CONNECTED:
		return true
	close()
	return false


func _answer() -> MVGatewayAnswer:
	var answer: MVGatewayAnswer = MVGatewayAnswer.new()
	var end: int = Time.get_ticks_msec() + int(ANSWER_S_MAX * 1000.0)
	while Time.get_ticks_msec() < end:
		for step: int in POLLS_A_FRAME:
			var _failed: Error = _http.poll()
			match _http.get_status():
				HTTPClient.STATUS_REQUESTING:
					break
				HTTPClient.STATUS_BODY:
					answer.body.append_array(_http.read_response_body_chunk())
					if answer.body.size() > BODY_BYTES_MAX:
						return answer
				HTTPClient.STATUS_CONNECTED:
					answer.take(_http.get_response_code(), _http.get_response_headers())
					return answer
				_:
					return answer
		await _frame()
	return answer


static func _frame() -> void:
	var tree: SceneTree = Engine.get_main_loop()
	await tree.process_frame
