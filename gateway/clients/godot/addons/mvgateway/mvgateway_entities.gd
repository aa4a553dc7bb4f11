@icon("res://addons/mvgateway/icons/entities.svg")
class_name MVGatewayEntities
extends RefCounted
## The entities of a world, or the items of an owner's inventory, over HTTP (docs/ENTITIES.md).
##
##   var town: MVGatewayEntities = MVGatewayEntities.new("https://127.0.0.1:4433", "town", "res://ca.crt")
##   var answer: MVGatewayAnswer = await town.put("chest:7", {"gold": 12}, {"tags": ["chest"]})
##   if answer.ok: print(answer.revision)
##   else: print(answer.code, answer.detail)
##   print((await town.fetch("chest:7")).value)
##
## Every call is a coroutine and answers a [MVGatewayAnswer]: look at its [member MVGatewayAnswer.ok].

const TYPES: Dictionary = {
	"variant": "application/vnd.godot.variant", "bytes": "application/octet-stream", "json": "application/json",
}
const ENTITIES_TYPE: String = "application/vnd.mvgateway.entities"
const ENTITY: int = 32
const ENTITY_HEADER: int = 8

## The connection: its token, certificates and headers.
var http: MVGatewayHTTP
var world: String
## The lease by which this server writes in its owner's name (see [method acquire]).
var lease: String = ""

var _base: String


func _init(gateway: String, its_world: String, ca: String = "", by: Variant = null) -> void:
	http = MVGatewayHTTP.new(gateway, ca, by)
	world = its_world
	_base = "/v1/worlds/%s/entities" % its_world.uri_encode()


## The items of [param owner].
static func inventory(gateway: String, owner: String, ca: String = "", by: Variant = null) -> MVGatewayEntities:
	var made: MVGatewayEntities = MVGatewayEntities.new(gateway, owner, ca, by)
	made._base = "/v1/inventories/%s/items" % owner.uri_encode()
	return made


## Make the world, where it is not there: a publisher's is made by publishing. [param options]: stride, retention, ring_s.
func make_world(options: Dictionary = {}) -> MVGatewayAnswer:
	return await _json(HTTPClient.METHOD_PUT, "/v1/worlds/" + world.uri_encode(), options)


# --- one


## Store. A PackedByteArray goes as it is, anything else as a Variant; [param options]: kind ("json"), class, owner, tags,
## key, quantity, if_match (a revision), create_only.
func put(id: String, state: Variant, options: Dictionary = {}) -> MVGatewayAnswer:
	var kind: String = str(options.get("kind", "bytes" if state is PackedByteArray else "variant"))
	var said: PackedStringArray = ["Content-Type: " + str(TYPES.get(kind, TYPES["bytes"]))]
	for field: String in ["class", "owner"]:
		if options.has(field):
			MVGateway._ok(said.append("x-entity-%s: %s" % [field, str(options[field]).uri_encode()]))
	if options.has("tags"):
		var tags: PackedStringArray = []
		for tag: String in options["tags"]:
			MVGateway._ok(tags.append(tag.uri_encode()))
		MVGateway._ok(said.append("x-entity-tags: " + ",".join(tags)))
	for field: String in ["key", "quantity", "epoch", "tick"]:
		if options.has(field):
			MVGateway._ok(said.append("x-entity-%s: %d" % [field, options[field]]))
	return await _ask(HTTPClient.METHOD_PUT, id, said + _condition(options), encode(state, kind))


## Fetch, now or [param at] a time in the past (RFC 3339, "90s-ago"). [member MVGatewayAnswer.value] is the state.
func fetch(id: String, at: String = "") -> MVGatewayAnswer:
	var path: String = id.uri_encode() + ("" if at == "" else "?at=" + at.uri_encode())
	var answer: MVGatewayAnswer = await http.ask(HTTPClient.METHOD_GET, _base + "/" + path, _lease())
	if not answer.ok:
		return answer
	var kind: String = "bytes"
	for name: String in TYPES:
		if str(answer.headers.get("content-type", "")).begins_with(str(TYPES[name])):
			kind = name
	answer.facts = {"id": id, "kind": kind, "tags": [], "quantity": 1}
	for field: String in ["class", "owner", "tags", "key", "quantity", "epoch", "tick", "in-transfer"]:
		if answer.headers.has("x-entity-" + field):
			var text: String = str(answer.headers["x-entity-" + field])
			answer.facts[field.replace("-", "_")] = _field(field, text)
	answer.revision = str(answer.headers.get("etag", "-1")).replace("\"", "").to_int()
	answer.value = decode(answer.body, kind)
	return answer


## Change class, owner or tags.
func patch(id: String, members: Dictionary) -> MVGatewayAnswer:
	var said: PackedStringArray = ["Content-Type: application/json"]
	return await _ask(HTTPClient.METHOD_PATCH, id, said, JSON.stringify(members).to_utf8_buffer())


## Delete; [param options]: if_match.
func remove(id: String, options: Dictionary = {}) -> MVGatewayAnswer:
	return await _ask(HTTPClient.METHOD_DELETE, id, _condition(options), PackedByteArray())


# --- many


## All of these in one commit, or none: {"op": "put", "id": …, "state": …, "class": …, "if_match": …}, "get", "delete".
## Results in [code]facts["results"][/code]; a got one has "value". Refused: "batch_refused" with "faults".
func batch(operations: Array[Dictionary]) -> MVGatewayAnswer:
	var body: PackedByteArray = []
	for operation: Dictionary in operations:
		var head: Dictionary = operation.duplicate()
		var state: PackedByteArray = []
		if head.has("state"):
			var kind: String = str(head.get("kind", "bytes" if head["state"] is PackedByteArray else "variant"))
			head["kind"] = kind
			state = encode(head["state"], kind)
			MVGateway._ok(head.erase("state"))
		body.append_array(prefixed(entity_message(head, state)))
	var said: PackedStringArray = ["Content-Type: " + ENTITIES_TYPE]
	var answer: MVGatewayAnswer = await http.ask(HTTPClient.METHOD_POST, _base + ":batch", said + _lease(), body)
	if answer.ok:
		var results: Array[Dictionary] = []
		for message: PackedByteArray in messages_in(answer.body):
			results.append(entity_in(message))
		answer.facts["results"] = results
	return answer


## Every entity of these filters (class, owner, tag, prefix), in [code]facts["entities"][/code], with its "value";
## [member MVGatewayAnswer.revision] is what [method watch] goes on from.
func all(filters: Dictionary = {}) -> MVGatewayAnswer:
	var said: PackedStringArray = ["Accept: " + ENTITIES_TYPE]
	var answer: MVGatewayAnswer = await http.ask(HTTPClient.METHOD_GET, _base + _query(filters), said + _lease())
	if answer.ok:
		var found: Array[Dictionary] = []
		for message: PackedByteArray in messages_in(answer.body):
			if message[0] == ENTITY:
				found.append(entity_in(message))
			else:
				answer.revision = MVGateway._int_of(control_in(message), "revision")
		answer.facts["entities"] = found
	return answer


## Changes as they commit, from revision [param since] on (less than 0: from now). It connects again by itself and goes
## on where it was. Keep what it answers; [method MVGatewayWatch.close] ends it.
func watch(since: int = -1, filters: Dictionary = {}) -> MVGatewayWatch:
	return MVGatewayWatch.new(self, _base + "/live", since, filters)


# --- live records, leases, transfers, trades


## The live record [param key] becomes the entity's state, and leaves the world.
func hibernate(id: String, key: int, members: Dictionary = {}) -> MVGatewayAnswer:
	var told: Dictionary = members.duplicate()
	told["key"] = key
	return await _json(HTTPClient.METHOD_POST, _base + "/" + id.uri_encode() + ":hibernate", told)


## The reverse: {id, key, epoch, tick}. [param key] less than 0: the one it had.
func wake(id: String, key: int = -1) -> MVGatewayAnswer:
	return await _json(HTTPClient.METHOD_POST, _base + "/" + id.uri_encode() + ":wake", {"key": key} if key >= 0 else {})


## Take an owner's lease: from now on this client writes in its name. [method renew] it every second or so.
func acquire(owner: String, takeover: bool = false) -> MVGatewayAnswer:
	var path: String = "/v1/worlds/%s/leases" % world.uri_encode()
	var answer: MVGatewayAnswer = await _json(HTTPClient.METHOD_POST, path, {"owner": owner, "takeover": takeover})
	if answer.ok:
		lease = str(answer.facts.get("lease", ""))
	return answer


## Keep the lease for another 5 s.
func renew(owner: String) -> MVGatewayAnswer:
	return await _json(HTTPClient.METHOD_PUT, "/v1/worlds/%s/leases/%s" % [world.uri_encode(), owner.uri_encode()], {})


## Give the lease back.
func release(owner: String) -> MVGatewayAnswer:
	var path: String = "/v1/worlds/%s/leases/%s" % [world.uri_encode(), owner.uri_encode()]
	var answer: MVGatewayAnswer = await http.ask(HTTPClient.METHOD_DELETE, path, _lease())
	lease = ""
	return answer


## Offer entities to another world, all or none; the ticket is [code]facts["ticket"][/code].
func transfer(ids: PackedStringArray, to: String, expires_ms: int = 5000) -> MVGatewayAnswer:
	var body: Dictionary = {"entities": ids, "from": world, "to": to, "expires_ms": expires_ms}
	return await _json(HTTPClient.METHOD_POST, "/v1/transfers", body)


## Take what a ticket offers.
func accept(ticket: String, owner: String = "") -> MVGatewayAnswer:
	return await _json(HTTPClient.METHOD_POST, "/v1/transfers/%s:accept" % ticket.uri_encode(), {} if owner == "" else {"owner": owner})


## Take an offer back.
func cancel(ticket: String) -> MVGatewayAnswer:
	return await _json(HTTPClient.METHOD_POST, "/v1/transfers/%s:cancel" % ticket.uri_encode(), {})


## How a transfer stands.
func transfer_record(ticket: String) -> MVGatewayAnswer:
	return await http.ask_json(HTTPClient.METHOD_GET, "/v1/transfers/%s" % ticket.uri_encode())


## Move items between two owners, all or nothing: {"item", "from", "to", "quantity"} each; [param expect]:
## {"owner", "item", "quantity", "revision"}.
func trade(moves: Array[Dictionary], expect: Array[Dictionary] = []) -> MVGatewayAnswer:
	return await _json(HTTPClient.METHOD_POST, "/v1/inventories:trade", {"moves": moves, "expect": expect})


# --- messages


## A state's bytes.
static func encode(state: Variant, kind: String) -> PackedByteArray:
	if kind == "json":
		return JSON.stringify(state).to_utf8_buffer()
	if kind == "bytes" and state is PackedByteArray:
		return state
	return var_to_bytes(state)


## A state from its bytes. Objects are never made.
static func decode(state: PackedByteArray, kind: String) -> Variant:
	if kind == "variant":
		return bytes_to_var(state)
	return JSON.parse_string(state.get_string_from_utf8()) if kind == "json" else state


## An entity message from its head and state (docs/ENTITIES.md).
static func entity_message(head: Dictionary, state: PackedByteArray) -> PackedByteArray:
	var text: PackedByteArray = JSON.stringify(head).to_utf8_buffer()
	var out: PackedByteArray = []
	MVGateway._ok(out.resize(ENTITY_HEADER))
	out.encode_u8(0, ENTITY)
	out.encode_u32(4, text.size())
	return out + text + state


## An entity message's head, with "state" and "value"; empty where it is none.
static func entity_in(message: PackedByteArray) -> Dictionary:
	if message.size() < ENTITY_HEADER or message[0] != ENTITY:
		return {}
	var end: int = ENTITY_HEADER + message.decode_u32(4)
	if end > message.size():
		return {}
	var read: Variant = JSON.parse_string(message.slice(ENTITY_HEADER, end).get_string_from_utf8())
	if not read is Dictionary:
		return {}
	var head: Dictionary = {"class": "", "owner": "", "tags": [], "kind": "variant", "key": null, "quantity": 1, "in_transfer": false}
	var told: Dictionary = read
	head.merge(told, true)
	for field: String in ["revision", "key", "quantity", "epoch", "tick", "status"]:
		if head.get(field) is float:
			head[field] = MVGateway._int_of(head, field)
	head["state"] = message.slice(end)
	head["value"] = null if end == message.size() else decode(message.slice(end), str(head["kind"]))
	return head


static func control_in(message: PackedByteArray) -> Dictionary:
	var read: Variant = JSON.parse_string(message.slice(1).get_string_from_utf8())
	return read if read is Dictionary else {}


static func prefixed(message: PackedByteArray) -> PackedByteArray:
	var out: PackedByteArray = []
	MVGateway._ok(out.resize(4))
	out.encode_u32(0, message.size())
	return out + message


## A body's length-prefixed messages, as far as they are whole.
static func messages_in(body: PackedByteArray) -> Array[PackedByteArray]:
	var found: Array[PackedByteArray] = []
	var at: int = 0
	while at + 4 <= body.size():
		var end: int = at + 4 + body.decode_u32(at)
		if end > body.size() or end == at + 4:
			break
		found.append(body.slice(at + 4, end))
		at = end
	return found


# --- below


func _ask(method: HTTPClient.Method, id: String, said: PackedStringArray, body: PackedByteArray) -> MVGatewayAnswer:
	return await http.ask(method, _base + "/" + id.uri_encode(), said + _lease(), body)


func _json(method: HTTPClient.Method, path: String, members: Dictionary) -> MVGatewayAnswer:
	var said: PackedStringArray = ["Accept: application/json", "Content-Type: application/json"]
	return await http.ask(method, path, said + _lease(), JSON.stringify(members).to_utf8_buffer())


func _lease() -> PackedStringArray:
	return ["x-owner-lease: " + lease] if lease != "" else []


static func _condition(options: Dictionary) -> PackedStringArray:
	if options.has("if_match"):
		return ["If-Match: \"%d\"" % options["if_match"]]
	return ["If-None-Match: *"] if options.get("create_only") == true else []


static func _query(fields: Dictionary) -> String:
	return "" if fields.is_empty() else "?" + HTTPClient.new().query_string_from_dict(fields)


static func _field(field: String, text: String) -> Variant:
	match field:
		"tags":
			var tags: Array[String] = []
			for tag: String in text.split(",", false):
				tags.append(tag.uri_decode())
			return tags
		"key", "quantity", "epoch", "tick":
			return text.to_int()
		"in-transfer":
			return text == "1"
	return text.uri_decode()
