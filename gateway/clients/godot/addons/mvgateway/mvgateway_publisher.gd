extends "res://addons/mvgateway/mvgateway_token.gd"
## What a publisher says, and what of it is still to be said. [MVGateway] stands on it.

## Everything up to there is in the store: for publishers.
signal durable_moved(epoch: int, tick: int)
## A record of [method send] is larger than any message and was left out.
signal unsent(key: int, bytes: int, bytes_max: int)

const PART_BYTES: int = 65_535           ## of a frame's messages, but where one record is larger
const RECORD_BYTES_MAX: int = (16 << 20) - HEADER - 8

var _keyframe_due: bool = false


## Publish one frame: key -> PackedByteArray, null removes. [param keyframe]: these are all records. Never waits.
## Answers its tick.
func send(changes: Dictionary, keyframe: bool = false) -> int:
	tick += 1
	if is_same(changes, records):
		changes = records.duplicate()
	if keyframe:
		records.clear()
		_owed.clear()
	var fits: bool = true
	for key: int in changes:
		var value: Variant = changes[key]
		if key < 0 or key > KEY_MAX or not (value == null or value is PackedByteArray):
			push_error("record %d of %s is left out: keys are 0 to 4294967295, values PackedByteArray or null" % [key, world])
			fits = false
		elif value == null:
			_drop(records, key)
		else:
			var data: PackedByteArray = value
			if data.size() > RECORD_BYTES_MAX:
				push_error("record %d of %s is left out: %d bytes, and a message holds %d; split it" % [key, world, data.size(), RECORD_BYTES_MAX])
				unsent.emit(key, data.size(), RECORD_BYTES_MAX)
				fits = false
			else:
				records[key] = data
	if status != Status.CONNECTED or epoch == 0 or role != "publish":
		return tick
	if keyframe:
		_send_keyframe()
	elif not _has_room():
		_owed.merge(changes)
	else:
		if not _owed.is_empty() or not fits:
			changes = _newest_of(changes)
		_send_parts(changes, 0)
	return tick


## The epoch's secret, for whoever goes on with this run in another process (with [member epoch]): keep it to yourself.
func resume_secret() -> String:
	return _resume


## Take up the run of another process: its epoch, and the secret of [method resume_secret].
func resume_from(its_epoch: int, secret: String, its_tick: int = 0) -> void:
	epoch = its_epoch
	_resume = secret
	tick = its_tick


## Wait until [param at] (default: the newest tick) of this epoch is in the store; false where it no longer can be.
func wait_durable(at: int = -1) -> bool:
	var wanted: int = tick if at < 0 else at
	var its_epoch: int = epoch
	while durable.is_empty() or _durable_order() < (its_epoch << 32 | wanted):
		if not is_inside_tree() or refusal != "" or not _wanted:
			return false
		await get_tree().process_frame
		if its_epoch == 0:
			its_epoch = epoch
	return true


func _take_durable(message: Dictionary) -> void:
	durable = {"epoch": _int_of(message, "epoch"), "tick": _int_of(message, "tick")}
	durable_moved.emit(_int_of(message, "epoch"), _int_of(message, "tick"))


## What the gateway itself changed in a publisher's world: an entity that went to sleep, or woke. It is the newest, and
## is not to be said again.
func _adopt(packet: PackedByteArray) -> Array[int]:
	var keys: Array[int] = []
	var values: Array = []
	var orders: PackedInt64Array = []
	var base: int = packet.decode_u32(8) << 32
	if packet[1] & ZSTD:
		return keys
	if not _read(packet, packet[1], base, base | packet.decode_u32(12), keys, values, orders):
		return []
	for at: int in keys.size():
		_drop(_owed, keys[at])
		if values[at] == null:
			_drop(records, keys[at])
		else:
			records[keys[at]] = values[at]
	if packet.decode_u32(8) == epoch:
		tick = maxi(tick, packet.decode_u32(12))
	return keys


## The newest values of these and of what is owed.
func _newest_of(changes: Dictionary) -> Dictionary:
	_owed.merge(changes)
	var all: Dictionary = {}
	for key: int in _owed:
		if key >= 0 and key <= KEY_MAX:
			all[key] = records.get(key)
	_owed.clear()
	return all


func _send_owed() -> void:
	if epoch == 0 or role != "publish" or not _has_room():
		return
	tick += 1
	if _keyframe_due:
		_send_keyframe()
	else:
		_send_parts(_newest_of({}), 0)


func _send_keyframe() -> void:
	_keyframe_due = not _has_room()
	if not _keyframe_due:
		_owed.clear()
		_send_parts(records, KEYFRAME)


func _send_parts(changes: Dictionary, flags: int) -> void:
	var groups: Array[Dictionary] = [{}]
	var size: int = HEADER
	for key: int in changes:
		var value: Variant = changes[key]
		var more: int = 8
		if value != null:
			var data: PackedByteArray = value
			more += data.size()
		if size + more > PART_BYTES and not groups[-1].is_empty():
			groups.append({})
			size = HEADER
		groups[-1][key] = value
		size += more
	var at_us: int = int(Time.get_unix_time_from_system() * 1_000_000)
	for part: int in groups.size():
		if not _put(encode(epoch, tick, groups[part], flags, part, groups.size(), at_us)):
			_owed.merge(groups[part])
			_keyframe_due = _keyframe_due or flags & KEYFRAME != 0


func _durable_order() -> int:
	return _int_of(durable, "epoch") << 32 | _int_of(durable, "tick")
