extends Node
## Messages of the frame protocol, version 1 (docs/FRAMES.md): bytes to values and back. Nothing here keeps anything. [MVGateway] stands on it.

const FRAME: int = 1
const CONTROL: int = 16
const KEYFRAME: int = 1
const ZSTD: int = 2
const TICKS: int = 8
const REMOVED: int = 0xFFFFFFFF
const KEY_MAX: int = 0xFFFFFFFF
const HEADER: int = 24


## A frame's message from [param changes] (key -> PackedByteArray, null removes).
static func encode(its_epoch: int, its_tick: int, changes: Dictionary, flags: int = 0, part: int = 0, parts: int = 1,
		at_us: int = -1) -> PackedByteArray:
	var out: StreamPeerBuffer = StreamPeerBuffer.new()
	out.put_u8(FRAME)
	out.put_u8(flags)
	out.put_u16(part)
	out.put_u16(parts)
	out.put_u16(0)
	out.put_u32(its_epoch)
	out.put_u32(its_tick)
	out.put_u64(int(Time.get_unix_time_from_system() * 1_000_000) if at_us < 0 else at_us)
	for key: int in changes:
		var value: Variant = changes[key]
		out.put_u32(key)
		if value == null:
			out.put_u32(REMOVED)
		else:
			var data: PackedByteArray = value
			out.put_u32(data.size())
			var _failed: Error = out.put_data(data)
	return out.data_array


## A message's records; false where it is malformed.
static func _read(packet: PackedByteArray, flags: int, base: int, order: int, keys: Array[int], values: Array,
		orders: PackedInt64Array) -> bool:
	var stride: int = packet.decode_u16(6)
	var own: int = 4 if flags & TICKS else 0
	var size: int = packet.size()
	var at: int = HEADER
	if stride > 0 and (stride < 4 or (size - HEADER) % (stride + own) != 0):
		return false
	while at < size:
		if at + own + (stride if stride > 0 else 8) > size:
			return false
		_ok(orders.append(base | packet.decode_u32(at) if own > 0 else order))
		at += own
		keys.append(packet.decode_u32(at))
		var length: int = stride
		if stride == 0:
			length = packet.decode_u32(at + 4)
			at += 8
		if length == REMOVED:
			values.append(null)
			continue
		if at + length > size:
			return false
		values.append(packet.slice(at, at + length))
		at += length
	return true


static func _int_of(of: Dictionary, field: String) -> int:
	var found: Variant = of.get(field)
	if found is float:
		var number: float = found
		return int(number)
	return found if found is int else 0


static func _drop(from: Dictionary, key: int) -> void:
	var _was: bool = from.erase(key)


static func _ok(_result: Variant) -> void:
	pass


static func _now() -> float:
	return Time.get_ticks_msec() / 1000.0
