extends Node
## The server: it walks ten avatars, and has them published. godot --headless res://avatars/server.tscn

const AVATARS: int = 10

var gateway: MVGateway
var avatars: Array[Avatar] = []

var _time_s: float = 0.0


func _ready() -> void:
	Engine.max_fps = 60
	gateway = AvatarOptions.connected_to(MVGateway.new(), "publish")
	add_child(gateway)
	var walkers: Node3D = Node3D.new()
	add_child(walkers)
	var scene: PackedScene = load("res://avatars/avatar.tscn")
	for number: int in AVATARS:
		var avatar: Avatar = scene.instantiate()
		avatar.tint = Color.from_hsv(float(number) / AVATARS, 0.7, 0.95)
		walkers.add_child(avatar)
		avatars.append(avatar)
	add_child(AvatarOptions.synchronizer(gateway, walkers))


func _process(delta: float) -> void:
	_time_s += delta
	for number: int in avatars.size():
		avatars[number].transform = _place(number, _time_s)


## Where an avatar is: each on a curve of its own, looking where it goes.
static func _place(number: int, time_s: float) -> Transform3D:
	var here: Vector3 = _spot(number, time_s)
	var ahead: Vector3 = _spot(number, time_s + 0.05)
	return Transform3D(Basis.IDENTITY, here).looking_at(ahead)


static func _spot(number: int, time_s: float) -> Vector3:
	var turn: float = time_s * (0.5 + 0.05 * number) + number
	return Vector3((2.0 + 0.6 * number) * cos(turn), 0.0, (2.0 + 0.4 * number) * sin(turn * 1.5))
