extends Node3D
## What was recorded, played: with a time line, marks, and any speed. godot res://avatars/film.tscn

var film: MVGatewayFilm
var recordings: MVGatewayRecordings
var synchronizer: MVGatewaySynchronizer
## The newest epoch's ticks: the ends of the time line.
var first: int = 0
var last: int = 0
var epoch: int = 0

@onready var _walkers: Node3D = $Walkers
@onready var _text: Label = $Controls/Text
@onready var _line: HSlider = $Controls/Line
@onready var _speed: OptionButton = $Controls/Buttons/Speed
@onready var _marks: HBoxContainer = $Controls/Marks


func _ready() -> void:
	film = MVGatewayFilm.new()
	film.start_paused = true
	var _connected: MVGateway = AvatarOptions.connected_to(film, "subscribe")
	add_child(film)
	synchronizer = AvatarOptions.synchronizer(film, _walkers)
	synchronizer.delay_max_s = 0.1
	add_child(synchronizer)
	for speed: String in ["-1", "0.25", "0.5", "1", "2", "8"]:
		_speed.add_item(speed)
	_speed.select(3)
	_wire(_speed.item_selected, func(_at: int) -> void: play())
	_wire(($Controls/Buttons/Play as Button).pressed, play)
	_wire(($Controls/Buttons/Pause as Button).pressed, film.pause)
	_wire(($Controls/Buttons/Back as Button).pressed, film.step.bind(-1))
	_wire(($Controls/Buttons/On as Button).pressed, film.step.bind(1))
	_wire(_line.drag_ended, func(_moved: bool) -> void: show_tick(int(_line.value)))
	_wire(film.positioned, _positioned)
	_wire(film.command_refused, func(_command: String, _code: String, detail: String) -> void: _text.text = detail)
	await look()


func play() -> void:
	film.play(_speed.get_item_text(_speed.selected).to_float())


func show_tick(tick: int) -> void:
	film.seek({"epoch": epoch, "tick": tick})


## Ask what was recorded, for the time line and the marks on it.
func look() -> void:
	recordings = MVGatewayRecordings.new(
		film.url.replace("wss://", "https://").replace("ws://", "http://"), film.world, film.ca_file, film.token)
	var summary: MVGatewayAnswer = await recordings.summary()
	if not summary.ok:
		_text.text = summary.detail
		return
	var ends: Array[Dictionary] = [{}, {}]
	for at: int in 2:
		var end: Variant = summary.facts.get(["first", "last"][at])
		if end is Dictionary:
			ends[at] = end
	epoch = MVGateway._int_of(ends[1], "epoch")
	last = MVGateway._int_of(ends[1], "tick")
	first = MVGateway._int_of(ends[0], "tick") if MVGateway._int_of(ends[0], "epoch") == epoch else 1
	_line.min_value = first
	_line.max_value = last
	for old: Node in _marks.get_children():
		old.queue_free()
	var answer: MVGatewayAnswer = await recordings.marks()
	var marks: Variant = answer.facts.get("marks", [])
	if marks is Array:
		for mark: Dictionary in marks:
			var button: Button = Button.new()
			button.text = str(mark["name"])
			_wire(button.pressed, film.seek.bind({"mark": mark["name"]}))
			_marks.add_child(button)


func _positioned(place: Dictionary) -> void:
	_line.set_value_no_signal(float(MVGateway._int_of(place, "tick")))


func _process(_delta: float) -> void:
	if film.status == MVGateway.Status.CONNECTED:
		_line.set_value_no_signal(film.tick)
		_text.text = "tick %d of %d, epoch %d" % [film.tick, last, film.epoch]


static func _wire(from: Signal, to: Callable) -> void:
	var _failed: int = from.connect(to)
