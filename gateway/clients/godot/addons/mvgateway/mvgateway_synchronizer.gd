@icon("res://addons/mvgateway/icons/synchronizer.svg")
class_name MVGatewaySynchronizer
extends Node
## Publishes nodes' properties as records of a world, or spawns, moves and frees nodes as its records say.
##
## On the server: a MVGateway with the role "publish"; each child of [member root_path] that is an instance of one of
## [member scenes] is published, from when it is added to when it leaves. On a client: the same lists, and a MVGateway (or
## MVGatewayFilm) that follows; the instances come, move and go by themselves, smoothly: what is shown is as much later as
## the network is uneven. What is in a record: MVGatewayPacking.

## A node was made for a record.
signal spawned(node: Node, key: int)
## A record is gone, and its node is about to be freed. On the server: an entity went to sleep, and its node with it.
signal despawned(node: Node, key: int)

const SAMPLES_MAX: int = 64

## The world.
@export var gateway: MVGateway = null:
	set(value):
		if gateway != null and gateway.changed.is_connected(_take):
			gateway.changed.disconnect(_take)
		gateway = value
		if gateway != null:
			var _failed: int = gateway.changed.connect(_take)
## Whose children are published, or where they are spawned.
@export var root_path: NodePath = ^".."
## Scenes by record class: the same list, in the same order, at both ends. A record names its scene by the place in it.
@export var scenes: Array[PackedScene] = []
## Which properties of each scene, as for a MultiplayerSynchronizer, from the scene's root: ".:position", "Head:rotation".
@export var config: SceneReplicationConfig = null
## Further ones, or instead. A Skeleton3D's "bone_poses" are all its bones' poses.
@export var properties: Array[NodePath] = []
## Smaller records: see MVGatewayPacking. Both ends understand both.
@export var quantised: bool = true
## So many frames a second, at most.
@export_range(1.0, 120.0) var rate_hz: float = 60.0
## Keys are given from here on.
@export var first_key: int = 1
## Show in between what came. Off: apply everything at once.
@export var interpolate: bool = true
## Where nothing comes, go on for so long as it went.
@export_range(0.0, 1.0) var extrapolate_s: float = 0.1
## Bounds of how late things are shown.
@export var delay_min_s: float = 0.0
@export var delay_max_s: float = 0.5

## key -> Node, at both ends.
var nodes: Dictionary = {}
var jitter: MVGatewayJitter = MVGatewayJitter.new()
## The publisher's time that is shown, in seconds.
var shown_s: float = 0.0
## By which to publish, where not by [member gateway].
var udp: MVGatewayUDP = null

var _keys: Dictionary = {}     # instance id -> key, of what is published
var _said: Dictionary = {}     # key -> its newest bytes
var _still: Dictionary = {}    # keys that were said and may have come to rest
var _classes: Dictionary = {}  # key -> class
var _next_key: int = -1
var _next_at: float = 0.0
var _tracks: Dictionary = {}   # key -> Track
var _bound: Dictionary = {}    # keys whose nodes are not ours to free
var _before_s: float = -INF    # the frame before the newest


## What is known of one node over a short time.
class Track:
	var times: PackedFloat64Array = []
	var values: Array[Array] = []
	var gone_at: float = INF
	var applied: Array = []


func _ready() -> void:
	process_mode = Node.PROCESS_MODE_ALWAYS
	jitter.delay_min_s = delay_min_s
	jitter.delay_max_s = delay_max_s
	_next_key = first_key
	if gateway != null and gateway.role != "publish" and not gateway.records.is_empty():
		var keys: Array[int] = []
		keys.assign(gateway.records.keys())
		_take(keys)


## Let this node stand for the record [param key], instead of a spawned one.
func bind(key: int, node: Node) -> void:
	_bound[key] = true
	nodes[key] = node


## The key of a published node, or -1.
func key_of(node: Node) -> int:
	return _keys.get(node.get_instance_id(), -1)


func _process(_delta: float) -> void:
	var now: float = Time.get_ticks_usec() / 1_000_000.0
	if udp != null or (gateway != null and gateway.role == "publish"):
		if now >= _next_at:
			_next_at = maxf(_next_at + 1.0 / rate_hz, now)
			_publish()
	elif gateway != null:
		shown_s = jitter.shown(now)
		_show(shown_s)


# --- publishing


func _publish() -> void:
	var root: Node = get_node_or_null(root_path)
	if root == null:
		return
	var changes: Dictionary = {}
	var there: Dictionary = {}
	for node: Node in root.get_children():
		var its_class: int = _class_of(node)
		if its_class < 0 or node.is_queued_for_deletion():
			continue
		var key: int = _key_for(node, its_class)
		there[key] = true
		var data: PackedByteArray = MVGatewayPacking.pack(its_class, _values_of(node), quantised)
		if data != _said.get(key):
			_said[key] = data
			_still[key] = true
			changes[key] = data
		elif _still.has(key):
			MVGateway._drop(_still, key)
			changes[key] = data  # once more, at rest: nobody is to think that it goes on
	for key: int in _said.keys():
		if not there.has(key):
			changes[key] = null
			_unpublish(key)
	if udp != null:
		MVGateway._ok(udp.send(0, changes))
	elif not changes.is_empty():
		MVGateway._ok(gateway.send(changes))


## The gateway itself has changed these: an entity that went to sleep takes its node along, one that woke brings it.
func _follow_sleep(keys: Array[int]) -> void:
	for key: int in keys:
		if not gateway.records.has(key):
			if _said.has(key):
				var node: Variant = nodes.get(key)
				_unpublish(key)
				if is_instance_valid(node):
					var its_node: Node = node
					despawned.emit(its_node, key)
					its_node.get_parent().remove_child(its_node)
					its_node.queue_free()
			continue
		var data: PackedByteArray = gateway.records[key]
		var told: Dictionary = MVGatewayPacking.unpack(data)
		if told.is_empty():
			continue
		var its_class: int = told["class"]
		if nodes.has(key) or _spawn(key, its_class):
			var node: Node = nodes[key]
			_keys[node.get_instance_id()] = key
			_said[key] = data
			_next_key = maxi(_next_key, key + 1)
			var values: Array = told["values"]
			_apply(key, values)


func _unpublish(key: int) -> void:
	MVGateway._drop(_said, key)
	MVGateway._drop(_still, key)
	MVGateway._drop(nodes, key)
	for id: int in _keys.keys():
		if _keys[id] == key:
			MVGateway._drop(_keys, id)


func _class_of(node: Node) -> int:
	var path: String = node.scene_file_path
	if path != "":
		for at: int in scenes.size():
			if scenes[at] != null and scenes[at].resource_path == path:
				return at
	return -1


func _key_for(node: Node, its_class: int) -> int:
	var id: int = node.get_instance_id()
	if not _keys.has(id):
		if _next_key < 0:
			_next_key = first_key
		_keys[id] = _next_key
		_classes[_next_key] = its_class
		nodes[_next_key] = node
		_next_key += 1
	return _keys[id]


func _paths() -> Array[NodePath]:
	var all: Array[NodePath] = []
	if config != null:
		all.append_array(config.get_properties())
	all.append_array(properties)
	return all


func _values_of(node: Node) -> Array:
	var values: Array = []
	for path: NodePath in _paths():
		var owner_of: Node = node.get_node_or_null(_node_in(path))
		if owner_of == null:
			values.append(null)
		elif path.get_concatenated_subnames() == &"bone_poses" and owner_of is Skeleton3D:
			var skeleton: Skeleton3D = owner_of
			var poses: Array[Transform3D] = []
			for bone: int in skeleton.get_bone_count():
				poses.append(skeleton.get_bone_pose(bone))
			values.append(poses)
		else:
			values.append(owner_of.get_indexed(_property_in(path)))
	return values


static func _node_in(path: NodePath) -> NodePath:
	var names: String = path.get_concatenated_names()
	return NodePath(names if names != "" else ".")


static func _property_in(path: NodePath) -> NodePath:
	return NodePath(path.get_concatenated_subnames())


# --- showing


func _take(keys: Array[int]) -> void:
	if gateway.role == "publish":
		_follow_sleep(keys)
		return
	var now: float = Time.get_ticks_usec() / 1_000_000.0
	var sent: float = now if gateway is MVGatewayFilm else gateway.sent_at / 1_000_000.0
	var before: float = jitter.newest_s
	if jitter.come(sent, now):
		for key: int in _tracks:
			var track: Track = _tracks[key]
			track.times.clear()
			track.values.clear()
		before = -INF
	if sent > before:
		_before_s = before
	for key: int in keys:
		if gateway.records.has(key):
			var data: PackedByteArray = gateway.records[key]
			_come(key, data, sent)
		elif _tracks.has(key):
			var track: Track = _tracks[key]
			track.gone_at = sent
		elif _bound.has(key):
			continue
	if not interpolate:
		_show(INF)


func _come(key: int, data: PackedByteArray, sent: float) -> void:
	var told: Dictionary = MVGatewayPacking.unpack(data)
	if told.is_empty():
		return
	var its_class: int = told["class"]
	if _tracks.has(key) and not _bound.has(key) and _classes.get(key) != its_class:
		_remove(key)
	if not nodes.has(key) and not _spawn(key, its_class):
		return
	if not _tracks.has(key):
		_tracks[key] = Track.new()
	var track: Track = _tracks[key]
	track.gone_at = INF
	var values: Array = told["values"]
	if track.times.is_empty():
		_apply(key, values)
	elif track.times[-1] < _before_s and _before_s < sent:
		# it was not in the frames between, so it stood still until the last of them
		_note(track, _before_s, track.values[-1])
	elif sent <= track.times[-1]:
		track.values[-1] = values
		return
	_note(track, sent, values)


static func _note(track: Track, at: float, values: Array) -> void:
	MVGateway._ok(track.times.append(at))
	track.values.append(values)
	if track.times.size() > SAMPLES_MAX:
		track.times.remove_at(0)
		track.values.remove_at(0)


func _spawn(key: int, its_class: int) -> bool:
	var root: Node = get_node_or_null(root_path)
	if root == null or its_class >= scenes.size() or scenes[its_class] == null:
		return false
	var node: Node = scenes[its_class].instantiate()
	node.name = "record_%d" % key
	nodes[key] = node
	_classes[key] = its_class
	root.add_child(node)
	spawned.emit(node, key)
	return true


func _remove(key: int) -> void:
	MVGateway._drop(_tracks, key)
	MVGateway._drop(_classes, key)
	if _bound.has(key):
		return
	var node: Variant = nodes.get(key)
	MVGateway._drop(nodes, key)
	if is_instance_valid(node):
		var its_node: Node = node
		despawned.emit(its_node, key)
		its_node.queue_free()


func _show(at: float) -> void:
	for key: int in _tracks.keys():
		var track: Track = _tracks[key]
		if track.gone_at <= at:
			_remove(key)
		elif not track.times.is_empty():
			_apply(key, _between(track, at))


## The values of the sender's time [param at].
func _between(track: Track, at: float) -> Array:
	while track.times.size() > 2 and track.times[1] <= at:
		track.times.remove_at(0)
		track.values.remove_at(0)
	if at <= track.times[0]:
		return track.values[0]
	if track.times.size() == 1:
		return track.values[0]
	if at < track.times[1]:
		return _mixed(track.values[0], track.values[1], (at - track.times[0]) / (track.times[1] - track.times[0]))
	var over: float = at - track.times[1]
	var known_to_rest: bool = jitter.newest_s > track.times[1]
	if known_to_rest or over > extrapolate_s or not interpolate:
		return track.values[1]
	var span: float = track.times[1] - track.times[0]
	if span <= 0.0:
		return track.values[1]
	return _beyond(track.values[0], track.values[1], minf(over, span) / span)


static func _mixed(from: Array, to: Array, weight: float) -> Array:
	var values: Array = []
	for at: int in to.size():
		values.append(_mix(from[at] if at < from.size() else to[at], to[at], weight))
	return values


## A little further in the same direction; turns are held, for they overshoot.
static func _beyond(from: Array, to: Array, weight: float) -> Array:
	var values: Array = []
	for at: int in to.size():
		var was: Variant = from[at] if at < from.size() else to[at]
		if to[at] is Vector3 or to[at] is Vector2 or to[at] is float:
			values.append(_mix(was, to[at], 1.0 + weight))
		elif to[at] is Transform3D and was is Transform3D:
			var there: Transform3D = to[at]
			var before: Transform3D = was
			values.append(Transform3D(there.basis, before.origin.lerp(there.origin, 1.0 + weight)))
		else:
			values.append(to[at])
	return values


static func _mix(from: Variant, to: Variant, weight: float) -> Variant:
	if typeof(from) != typeof(to):
		return to
	match typeof(to):
		TYPE_FLOAT, TYPE_VECTOR2, TYPE_VECTOR3, TYPE_VECTOR4, TYPE_COLOR:
			return lerp(from, to, weight)
		TYPE_QUATERNION:
			var turned: Quaternion = from
			var turn: Quaternion = to
			return turned.normalized().slerp(turn.normalized(), weight)
		TYPE_BASIS:
			var before: Basis = from
			var after: Basis = to
			return before.orthonormalized().slerp(after.orthonormalized(), weight).scaled_local(before.get_scale().lerp(after.get_scale(), weight))
		TYPE_TRANSFORM3D:
			var was: Transform3D = from
			var there: Transform3D = to
			return was.interpolate_with(there, weight)
		TYPE_TRANSFORM2D:
			var flat: Transform2D = from
			var its_flat: Transform2D = to
			return flat.interpolate_with(its_flat, weight)
		TYPE_ARRAY:
			var ones: Array = from
			var others: Array = to
			if ones.size() == others.size() and MVGatewayPacking._is_poses(others):
				var poses: Array[Transform3D] = []
				for at: int in others.size():
					var one: Transform3D = ones[at]
					var other: Transform3D = others[at]
					poses.append(one.interpolate_with(other, weight))
				return poses
	return to


func _apply(key: int, values: Array) -> void:
	var found: Variant = nodes.get(key)
	if not is_instance_valid(found):
		return
	if _tracks.has(key):
		var track: Track = _tracks[key]
		if is_same(track.applied, values):
			return
		track.applied = values
	var node: Node = found
	var paths: Array[NodePath] = _paths()
	for at: int in mini(paths.size(), values.size()):
		var owner_of: Node = node.get_node_or_null(_node_in(paths[at]))
		if owner_of == null:
			continue
		if paths[at].get_concatenated_subnames() == &"bone_poses" and owner_of is Skeleton3D:
			var skeleton: Skeleton3D = owner_of
			if values[at] is Array:
				var poses: Array = values[at]
				for bone: int in mini(skeleton.get_bone_count(), poses.size()):
					var pose: Transform3D = poses[bone]
					skeleton.set_bone_pose(bone, pose)
		else:
			owner_of.set_indexed(_property_in(paths[at]), values[at])
