class_name MVGatewayAnswer
extends RefCounted
## What a gateway answered to a request.

## True where it did what was asked.
var ok: bool = false
## The HTTP status; 0: nothing answered.
var status: int = 0
## Why not, as docs/API.md names it ("not_found", "precondition_failed", "unanswered" …), and in the gateway's words.
var code: String = ""
var detail: String = ""
## The answer's JSON object, or an entity's facts.
var facts: Dictionary = {}
## Names in lower case.
var headers: Dictionary = {}
var body: PackedByteArray = []
## The revision that it told, or -1.
var revision: int = -1
## An entity's state, decoded: a Variant, JSON, or bytes.
var value: Variant = null


static func unanswered(why: String) -> MVGatewayAnswer:
	var made: MVGatewayAnswer = MVGatewayAnswer.new()
	made.code = "unanswered"
	made.detail = why
	return made


func take(its_status: int, its_headers: PackedStringArray) -> void:
	status = its_status
	ok = status >= 200 and status < 300
	for line: String in its_headers:
		headers[line.get_slice(":", 0).strip_edges().to_lower()] = line.substr(line.find(":") + 1).strip_edges()
	var type: String = str(headers.get("content-type", ""))
	if type.contains("json"):
		var read: Variant = JSON.parse_string(body.get_string_from_utf8())
		if read is Dictionary:
			facts = read
	if not ok:
		code = str(facts.get("code", "http_%d" % status))
		detail = str(facts.get("detail", code))
	revision = MVGateway._int_of(facts, "revision") if facts.has("revision") else -1
