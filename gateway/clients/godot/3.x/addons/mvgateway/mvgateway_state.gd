extends Reference
# The newest record of each key, by the rules of a reader (docs/FRAMES.md, "What is said"): GDScript of Godot 3. An order is epoch << 32 | tick.

const KEYFRAME := 1
const ZSTD := 2
const TICKS := 8
const REMOVED := 0xFFFFFFFF
const HEADER := 24
const TOMBSTONE_TICKS := 600
const TOMBSTONES_MAX := 16384
const KEYFRAMES_PENDING_MAX := 2

var records := {}         # key -> PoolByteArray
var epoch := 0
var tick := 0
var newest := 0
var sent_at := 0
var reset_due := false    # the next keyframe is everything: after a seek

var _orders := {}
var _gone := {}           # removed key -> its order, oldest first
var _parts := {}          # keyframe order -> [parts seen, keys held]
var _floor := -1


# A frame's message as {epoch, tick, part, parts, flags, records: [[key, PoolByteArray or null, order]]}; {} where it is malformed.
static func read(packet: PoolByteArray) -> Dictionary:
	var size := packet.size()
	if size < HEADER or packet[0] != 1 or packet[1] & ZSTD:
		return {}
	var from := StreamPeerBuffer.new()
	from.data_array = packet
	from.seek(2)
	var flags := packet[1]
	var frame := {"flags": flags, "part": from.get_u16(), "parts": from.get_u16()}
	var stride := from.get_u16()
	frame["epoch"] = from.get_u32()
	frame["tick"] = from.get_u32()
	frame["sent_at"] = from.get_64()
	var base: int = frame["epoch"] << 32
	var own := 4 if flags & TICKS else 0
	var at := HEADER
	var found := []
	if stride > 0 and (stride < 4 or (size - HEADER) % (stride + own) != 0):
		return {}
	while at < size:
		if at + own + (stride if stride > 0 else 8) > size:
			return {}
		from.seek(at)
		var order: int = base | (from.get_u32() if own > 0 else frame["tick"])
		var key := from.get_u32()
		at += own
		var length := stride
		if stride == 0:
			length = from.get_u32()
			at += 8
		if length == REMOVED:
			found.append([key, null, order])
			continue
		if at + length > size:
			return {}
		found.append([key, packet.subarray(at, at + length - 1) if length > 0 else PoolByteArray(), order])
		at += length
	frame["records"] = found
	return frame


# Take what is newer in a message; answers the keys that changed. A malformed one changes nothing.
func take(packet: PoolByteArray) -> Array:
	var frame := read(packet)
	if frame.empty():
		return []
	var keys := []
	sent_at = frame["sent_at"]
	var held := {}
	for record in frame["records"]:
		held[record[0]] = true
	if frame["flags"] & KEYFRAME and reset_due:
		reset_due = false
		for key in records:
			if not held.has(key):
				keys.append(key)
		forget()
	var order: int = frame["epoch"] << 32 | frame["tick"]
	var last := order
	for record in frame["records"]:
		if record[2] > last:
			last = record[2]
		if record[2] > _order_at(record[0]):
			keys.append(record[0])
			_assign(record[0], record[1], record[2])
	if last > newest:
		newest = last
		epoch = last >> 32
		tick = last & 0xFFFFFFFF
	if frame["flags"] & KEYFRAME:
		_keyframe_part(frame, order, held, keys)
	return keys


func forget() -> void:
	records = {}
	_orders = {}
	_gone = {}
	_parts = {}
	newest = 0
	_floor = -1


func _order_at(key: int) -> int:
	if _orders.has(key):
		return _orders[key]
	var removed: int = _gone.get(key, -1)
	return removed if removed > _floor - 1 else _floor - 1


func _assign(key: int, value, order: int) -> void:
	var _was := _gone.erase(key)
	if value != null:
		records[key] = value
		_orders[key] = order
		return
	_was = records.erase(key)
	_was = _orders.erase(key)
	_gone[key] = order
	var horizon := newest - TOMBSTONE_TICKS
	while not _gone.empty():
		var oldest: int = _first(_gone)
		if _gone[oldest] >= horizon and _gone.size() <= TOMBSTONES_MAX:
			return
		_was = _gone.erase(oldest)


static func _first(of: Dictionary) -> int:
	for key in of:
		return key
	return -1


# Once all parts of a keyframe are there, what none of them holds is gone.
func _keyframe_part(frame: Dictionary, order: int, held: Dictionary, keys: Array) -> void:
	var parts: int = frame["parts"]
	if parts == 0 or order < _floor:
		return
	if not _parts.has(order):
		_parts[order] = [{}, {}]
	var pending: Array = _parts[order]
	pending[0][frame["part"]] = true
	for key in held:
		pending[1][key] = true
	if pending[0].size() < parts:
		while _parts.size() > KEYFRAMES_PENDING_MAX:
			var _was := _parts.erase(_parts.keys().min())
		return
	if frame["flags"] & TICKS == 0 and order > _floor:
		_floor = order
	for older in _parts.keys():
		if older <= order:
			var _was := _parts.erase(older)
	for key in _orders.keys():
		if _orders[key] < order and not pending[1].has(key):
			keys.append(key)
			_assign(key, null, order)
