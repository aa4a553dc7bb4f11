@icon("res://addons/mvgateway/icons/film.svg")
class_name MVGatewayFilm
extends MVGateway
## A world's recording, played: [member MVGateway.records] are those of the moment that is shown.
##
##   var film: MVGatewayFilm = MVGatewayFilm.new()
##   film.url = "wss://127.0.0.1:4433"
##   film.world = "arena"
##   film.begin = {"mark": "goal"}
##   add_child(film)
##   film.play(0.5)

## Where it is: epoch, tick, at_us, speed, ended.
signal positioned(place: Dictionary)
## A command that could not be done, such as a seek to what was never recorded. The film stays where it is.
signal command_refused(command: String, code: String, detail: String)
## Something of these ticks is missing.
signal gap(its_epoch: int, from_tick: int, to_tick: int, reason: String)

## Where it begins: {"tick", "epoch"}, {"at": "90s-ago"} or {"mark": name}; {}: the beginning.
var begin: Dictionary = {}
var start_paused: bool = false
var start_speed: float = 1.0
## The newest of [signal positioned].
var place: Dictionary = {}


func _ready() -> void:
	var _failed: int = told.connect(_take_told)


## Play from here; negative: backwards; INF: as fast as it goes.
func play(speed: float = 1.0) -> void:
	control({"type": "play", "speed": _speed(speed)})


func pause() -> void:
	control({"type": "pause"})


## Show the exact state of a moment: {"tick"} (with "epoch"), {"at"} or {"mark"}.
func seek(moment: Dictionary) -> void:
	var message: Dictionary = moment.duplicate()
	message["type"] = "seek"
	control(message)


## Pause, and go so many recorded ticks; negative: back.
func step(ticks: int = 1) -> void:
	control({"type": "step", "n": ticks})


## The world as it is now; any other command goes back to the past.
func live() -> void:
	control({"type": "live"})


func _path() -> String:
	var query: Dictionary = begin.duplicate()
	if place.has("tick"):  # come back to where it was
		query = {"epoch": MVGateway._int_of(place, "epoch"), "tick": MVGateway._int_of(place, "tick")}
	if start_paused:
		query["paused"] = 1
	elif start_speed != 1.0:
		query["speed"] = _speed(start_speed)
	var path: String = "/v1/worlds/%s/replay" % world.uri_encode()
	return path if query.is_empty() else path + "?" + HTTPClient.new().query_string_from_dict(query)


static func _speed(speed: float) -> Variant:
	if is_inf(speed):
		return "max" if speed > 0.0 else "-max"
	return speed


func _take_told(message: Dictionary) -> void:
	match message.get("type"):
		"position":
			place = message
			positioned.emit(message)
		"refused":
			command_refused.emit(str(message.get("command")), str(message.get("code")), str(message.get("message")))
		"gap":
			gap.emit(_int_of(message, "epoch"), _int_of(message, "from"), _int_of(message, "to"), str(message.get("reason")))
