extends "res://addons/mvgateway/mvgateway_messages.gd"
## The newest record of each key, by the rules of a reader (docs/FRAMES.md, "What is said"). [MVGateway] stands on it.

const TOMBSTONE_TICKS: int = 600
const TOMBSTONES_MAX: int = 16_384
const KEYFRAMES_PENDING_MAX: int = 2

## key -> PackedByteArray, the newest of each. A publisher's: what it said.
var records: Dictionary = {}
var epoch: int = 0
var tick: int = 0
## The publisher's clock in the newest frame's message, microseconds since the Unix epoch.
var sent_at: int = 0
var _newest: int = 0        # order of the newest frame
var _highest: int = -1      # no record, removal or floor is newer
var _floor: int = -1        # order of the publisher's newest whole keyframe
var _orders: Dictionary = {}
var _gone: Dictionary = {}  # removed key -> its order, oldest first
var _parts: Dictionary = {} # keyframe order -> [parts seen, keys held]
var _reset_due: bool = false


## Take what is newer in a frame's message; answers the keys that changed. A malformed one changes nothing.
func _apply(packet: PackedByteArray) -> Array[int]:
	var keys: Array[int] = []
	var flags: int = packet[1]
	var base: int = packet.decode_u32(8) << 32
	var order: int = base | packet.decode_u32(12)
	var is_newest: bool = order > _highest and flags & (TICKS | ZSTD) == 0
	if not is_newest or not _apply_newest(packet, order, keys):
		keys.clear()
		_apply_older(packet, flags, base, order, keys)
	return keys


func _seen(order: int) -> void:
	if order > _newest:
		_newest = order
		epoch = order >> 32
		tick = order & 0xFFFFFFFF


## The frequent case: everything in it is newer than all that is known, no key comes twice, and none is removed. False,
## and nothing has changed, where it is not so.
func _apply_newest(packet: PackedByteArray, order: int, keys: Array[int]) -> bool:
	var stride: int = packet.decode_u16(6)
	var size: int = packet.size()
	var at: int = HEADER
	var values: Dictionary = {}
	if stride > 0:
		if stride < 4 or (size - HEADER) % stride != 0:
			return false
		while at < size:
			var key: int = packet.decode_u32(at)
			values[key] = packet.slice(at, at + stride)
			keys.append(key)
			at += stride
	else:
		while at < size:
			if at + 8 > size:
				return false
			var key: int = packet.decode_u32(at)
			var end: int = at + 8 + packet.decode_u32(at + 4)
			if end > size:
				return false
			values[key] = packet.slice(at + 8, end)
			keys.append(key)
			at = end
	if values.size() != keys.size():
		return false
	if packet[1] & KEYFRAME and _reset_due:
		return false
	records.merge(values, true)
	for key: int in keys:
		_orders[key] = order
	if not _gone.is_empty():
		for key: int in keys:
			_drop(_gone, key)
	_highest = order
	_seen(order)
	if packet[1] & KEYFRAME:
		_keyframe_part(packet, order, keys, keys)
	return true


func _apply_older(packet: PackedByteArray, flags: int, base: int, order: int, keys: Array[int]) -> void:
	var its_keys: Array[int] = []
	var its_values: Array = []
	var its_orders: PackedInt64Array = []
	if flags & ZSTD or not _read(packet, flags, base, order, its_keys, its_values, its_orders):
		return
	if flags & KEYFRAME and _reset_due:
		_reset_due = false
		for key: int in records:
			if not its_keys.has(key):
				keys.append(key)
		_forget()
	var newest: int = order
	for at: int in its_keys.size():
		var key: int = its_keys[at]
		newest = maxi(newest, its_orders[at])
		if its_orders[at] > _order_at(key):
			keys.append(key)
			_assign(key, its_values[at], its_orders[at])
	_seen(newest)
	if flags & KEYFRAME:
		_keyframe_part(packet, order, its_keys, keys)


func _order_at(key: int) -> int:
	if _orders.has(key):
		return _orders[key]
	var removed: int = _gone.get(key, -1)
	return maxi(removed, _floor - 1)


func _assign(key: int, value: Variant, order: int) -> void:
	_drop(_gone, key)
	_highest = maxi(_highest, order)
	if value != null:
		records[key] = value
		_orders[key] = order
		return
	_drop(records, key)
	_drop(_orders, key)
	_gone[key] = order
	var horizon: int = _newest - TOMBSTONE_TICKS
	while not _gone.is_empty():
		var oldest: int = _first(_gone)
		if _gone[oldest] >= horizon and _gone.size() <= TOMBSTONES_MAX:
			return
		_drop(_gone, oldest)


static func _first(of: Dictionary) -> int:
	for key: int in of:
		return key
	return -1


## Count a keyframe's part; once all are there, what none of them holds is gone, and is put into [param keys].
func _keyframe_part(packet: PackedByteArray, order: int, held: Array[int], keys: Array[int]) -> void:
	var parts: int = packet.decode_u16(4)
	if parts == 0 or order < _floor:
		return
	if not _parts.has(order):
		_parts[order] = [{}, {}]
	var pending: Array = _parts[order]
	var seen: Dictionary = pending[0]
	var known: Dictionary = pending[1]
	seen[packet.decode_u16(2)] = true
	for key: int in held:
		known[key] = true
	if seen.size() < parts:
		while _parts.size() > KEYFRAMES_PENDING_MAX:
			var oldest: int = _parts.keys().min()
			_drop(_parts, oldest)
		return
	if packet[1] & TICKS == 0:
		_floor = maxi(_floor, order)
		_highest = maxi(_highest, order)
	for older: int in _parts.keys():
		if older <= order:
			_drop(_parts, older)
	for key: int in _orders.keys():
		if _orders[key] < order and not known.has(key):
			keys.append(key)
			_assign(key, null, order)


func _forget() -> void:
	records.clear()
	_orders.clear()
	_gone.clear()
	_parts.clear()
	_newest = 0
	_highest = -1
	_floor = -1
