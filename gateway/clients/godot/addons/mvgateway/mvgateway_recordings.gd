class_name MVGatewayRecordings
extends RefCounted
## What was recorded of a world: its span, its marks, its state at any moment (docs/RECOVERY.md).

var http: MVGatewayHTTP
var world: String


func _init(gateway: String, its_world: String, ca: String = "", by: Variant = null) -> void:
	http = MVGatewayHTTP.new(gateway, ca, by)
	world = its_world


## The span in [member MVGatewayAnswer.facts]: first, last, rows, gaps, marks, retention, parent.
func summary() -> MVGatewayAnswer:
	return await _read("/recording")


## The marks, in [code]facts["marks"][/code].
func marks() -> MVGatewayAnswer:
	return await _read("/marks")


## Set a mark; [param tick] less than 0: now.
func mark(name: String, tick: int = -1, data: Variant = null) -> MVGatewayAnswer:
	var body: Dictionary = {"name": name}
	if tick >= 0:
		body["tick"] = tick
	if data != null:
		body["data"] = data
	return await http.ask_json(HTTPClient.METHOD_POST, _base() + "/marks", body)


## A new world that begins as this one was: {"tick", "epoch"}, {"at"} or {"mark"}.
func branch(name: String, moment: Dictionary) -> MVGatewayAnswer:
	var body: Dictionary = moment.duplicate()
	body["name"] = name
	return await http.ask_json(HTTPClient.METHOD_POST, _base() + "/branch", body)


## The last synced state: key -> PackedByteArray, in [code]facts["records"][/code], with "epoch" and "tick".
func last() -> MVGatewayAnswer:
	return await _state("/frames/last")


## The state of a moment: {"tick", "epoch"} or {"at"}.
func state(moment: Dictionary) -> MVGatewayAnswer:
	return await _state("/frames?" + HTTPClient.new().query_string_from_dict(moment))


func _state(path: String) -> MVGatewayAnswer:
	var said: PackedStringArray = ["Accept: application/vnd.mvgateway.frames"]
	var answer: MVGatewayAnswer = await http.ask(HTTPClient.METHOD_GET, _base() + path, said)
	if answer.ok:
		var reader: MVGateway = MVGateway.new()
		for message: PackedByteArray in MVGatewayEntities.messages_in(answer.body):
			reader._take(message)
		answer.facts = {"records": reader.records, "epoch": str(answer.headers.get("x-epoch")).to_int(), "tick": str(answer.headers.get("x-tick")).to_int()}
		reader.free()
	return answer


func _read(path: String) -> MVGatewayAnswer:
	return await http.ask_json(HTTPClient.METHOD_GET, _base() + path)


func _base() -> String:
	return "/v1/worlds/" + world.uri_encode()
