class_name MVGatewayPacking
extends RefCounted
## Values of nodes' properties as a record's bytes, and back: what MVGatewaySynchronizer publishes.
##
## A record: u8 format, u8 class (the scene's place in the list), u16 count, then the values in the order of the list of
## properties. Format 1: one Variant, an Array of them (as var_to_bytes writes it). Format 2: quantised, each value a u8
## tag and its bytes, all little-endian:
##
##   0 a Variant      u16 length, var_to_bytes     5 Quaternion   6 bytes, the smallest three
##   1 bool           u8                           6 Basis        as 5, u8 scaled, 3 halves if so
##   2 float          f32                          7 Transform3D  3 f32, then as 6
##   3 Vector2        2 f32                        8 Color        4 halves
##   4 Vector3        3 f32                        9 poses        u16 bones, each as 7
##
## Smallest three: bits 0 and 1 say which component is the largest, and is left out (it is made positive); the others
## follow with 15 bits each, 0 to 32766 for -1/sqrt(2) to 1/sqrt(2). The error is at most 0.003 degrees a component.
## A bone's pose is 19 bytes (25 with a scale), so 56 of them are 1,066.

const VARIANTS: int = 1
const QUANTISED: int = 2
const HEAD: int = 4
const SIDE: float = 0.70710678118654752
const STEPS: int = 32_766  ## even, so that 0 is one of them

enum Tag { VARIANT, BOOL, FLOAT, VECTOR2, VECTOR3, QUATERNION, BASIS, TRANSFORM3D, COLOR, POSES }


static func pack(scene_class: int, values: Array, quantised: bool) -> PackedByteArray:
	var out: StreamPeerBuffer = StreamPeerBuffer.new()
	out.put_u8(QUANTISED if quantised else VARIANTS)
	out.put_u8(scene_class)
	out.put_u16(values.size())
	if not quantised:
		MVGateway._ok(out.put_data(var_to_bytes(values)))
		return out.data_array
	for value: Variant in values:
		_put(out, value)
	return out.data_array


## {"class", "values"}; empty where it is no such record.
static func unpack(data: PackedByteArray) -> Dictionary:
	if data.size() < HEAD:
		return {}
	var count: int = data.decode_u16(2)
	if data[0] == VARIANTS:
		if not data.size() > HEAD or not data.has_encoded_var(HEAD):
			return {}
		var read: Variant = data.decode_var(HEAD)
		if read is Array:
			return {"class": data[1], "values": read}
		return {}
	if data[0] != QUANTISED or count > data.size():
		return {}
	var from: StreamPeerBuffer = StreamPeerBuffer.new()
	from.data_array = data
	from.seek(HEAD)
	var values: Array = []
	for at: int in count:
		if from.get_available_bytes() < 1 or not _take(from, values):
			return {}
	return {"class": data[1], "values": values}


## A rotation in 48 bits.
static func smallest_three(rotation: Quaternion) -> int:
	var parts: PackedFloat64Array = [rotation.x, rotation.y, rotation.z, rotation.w]
	var largest: int = 0
	for at: int in range(1, 4):
		if absf(parts[at]) > absf(parts[largest]):
			largest = at
	var sign_of: float = -1.0 if parts[largest] < 0.0 else 1.0
	var packed: int = largest
	var shift: int = 2
	for at: int in 4:
		if at != largest:
			var share: float = (sign_of * parts[at] / SIDE + 1.0) / 2.0
			packed |= clampi(roundi(share * STEPS), 0, STEPS) << shift
			shift += 15
	return packed


static func from_smallest_three(packed: int) -> Quaternion:
	var largest: int = packed & 3
	var parts: PackedFloat64Array = [0.0, 0.0, 0.0, 0.0]
	var rest: float = 1.0
	var shift: int = 2
	for at: int in 4:
		if at != largest:
			parts[at] = (float(packed >> shift & 0x7FFF) / STEPS * 2.0 - 1.0) * SIDE
			rest -= parts[at] * parts[at]
			shift += 15
	parts[largest] = sqrt(maxf(rest, 0.0))
	return Quaternion(parts[0], parts[1], parts[2], parts[3]).normalized()


static func _put(out: StreamPeerBuffer, value: Variant) -> void:
	match typeof(value):
		TYPE_BOOL:
			out.put_u8(Tag.BOOL)
			out.put_u8(1 if value else 0)
		TYPE_FLOAT:
			out.put_u8(Tag.FLOAT)
			var number: float = value
			out.put_float(number)
		TYPE_VECTOR2:
			out.put_u8(Tag.VECTOR2)
			var flat: Vector2 = value
			out.put_float(flat.x)
			out.put_float(flat.y)
		TYPE_VECTOR3:
			out.put_u8(Tag.VECTOR3)
			var point: Vector3 = value
			_put_point(out, point)
		TYPE_QUATERNION:
			out.put_u8(Tag.QUATERNION)
			var rotation: Quaternion = value
			_put_rotation(out, rotation)
		TYPE_BASIS:
			out.put_u8(Tag.BASIS)
			var basis: Basis = value
			_put_basis(out, basis)
		TYPE_TRANSFORM3D:
			out.put_u8(Tag.TRANSFORM3D)
			var place: Transform3D = value
			_put_place(out, place)
		TYPE_COLOR:
			out.put_u8(Tag.COLOR)
			var color: Color = value
			for part: float in [color.r, color.g, color.b, color.a]:
				out.put_half(part)
		TYPE_ARRAY:
			var many: Array = value
			if _is_poses(many):
				_put_poses(out, many)
			else:
				_put_variant(out, value)
		_:
			_put_variant(out, value)


static func _put_poses(out: StreamPeerBuffer, poses: Array) -> void:
	out.put_u8(Tag.POSES)
	out.put_u16(poses.size())
	for pose: Transform3D in poses:
		_put_place(out, pose)


static func _put_variant(out: StreamPeerBuffer, value: Variant) -> void:
	out.put_u8(Tag.VARIANT)
	var data: PackedByteArray = var_to_bytes(value)
	if data.size() > 0xFFFF:
		push_error("a property of %d bytes is left out: quantised, it may have 65535" % data.size())
		data = var_to_bytes(null)
	out.put_u16(data.size())
	MVGateway._ok(out.put_data(data))


static func _is_poses(value: Array) -> bool:
	return value.get_typed_builtin() == TYPE_TRANSFORM3D


static func _put_point(out: StreamPeerBuffer, point: Vector3) -> void:
	out.put_float(point.x)
	out.put_float(point.y)
	out.put_float(point.z)


static func _put_rotation(out: StreamPeerBuffer, rotation: Quaternion) -> void:
	var packed: int = smallest_three(rotation)
	out.put_u32(packed & 0xFFFFFFFF)
	out.put_u16(packed >> 32)


static func _put_basis(out: StreamPeerBuffer, basis: Basis) -> void:
	var size: Vector3 = basis.get_scale()
	_put_rotation(out, basis.get_rotation_quaternion())
	var scaled: bool = not size.is_equal_approx(Vector3.ONE)
	out.put_u8(1 if scaled else 0)
	if scaled:
		out.put_half(size.x)
		out.put_half(size.y)
		out.put_half(size.z)


static func _put_place(out: StreamPeerBuffer, place: Transform3D) -> void:
	_put_point(out, place.origin)
	_put_basis(out, place.basis)


## Read one value; false where the bytes do not hold it.
static func _take(from: StreamPeerBuffer, values: Array) -> bool:
	var tag: int = from.get_u8()
	if tag == Tag.VARIANT or tag == Tag.POSES:
		if from.get_available_bytes() < 2:
			return false
		return _take_poses(from, values) if tag == Tag.POSES else _take_variant(from, values)
	if tag > Tag.POSES or from.get_available_bytes() < [0, 1, 4, 8, 12, 6, 7, 19, 8][tag]:
		return false
	match tag:
		Tag.BOOL:
			values.append(from.get_u8() != 0)
		Tag.FLOAT:
			values.append(from.get_float())
		Tag.VECTOR2:
			values.append(Vector2(from.get_float(), from.get_float()))
		Tag.VECTOR3:
			values.append(_take_point(from))
		Tag.QUATERNION:
			values.append(_take_rotation(from))
		Tag.BASIS:
			values.append(_take_basis(from))
		Tag.TRANSFORM3D:
			values.append(_take_place(from))
		Tag.COLOR:
			values.append(Color(from.get_half(), from.get_half(), from.get_half(), from.get_half()))
	return true


static func _take_variant(from: StreamPeerBuffer, values: Array) -> bool:
	var length: int = from.get_u16()
	if from.get_available_bytes() < length:
		return false
	var read: Array = from.get_data(length)
	var data: PackedByteArray = read[1]
	if not data.has_encoded_var(0):
		return false
	values.append(data.decode_var(0))
	return true


static func _take_poses(from: StreamPeerBuffer, values: Array) -> bool:
	var count: int = from.get_u16()
	if from.get_available_bytes() < count * 19:
		return false
	var poses: Array[Transform3D] = []
	for bone: int in count:
		if from.get_available_bytes() < 19:
			return false
		poses.append(_take_place(from))
	values.append(poses)
	return true


static func _take_point(from: StreamPeerBuffer) -> Vector3:
	return Vector3(from.get_float(), from.get_float(), from.get_float())


static func _take_rotation(from: StreamPeerBuffer) -> Quaternion:
	var low: int = from.get_u32()
	return from_smallest_three(low | from.get_u16() << 32)


static func _take_basis(from: StreamPeerBuffer) -> Basis:
	var basis: Basis = Basis(_take_rotation(from))
	if from.get_u8() == 0 or from.get_available_bytes() < 6:
		return basis
	return basis.scaled_local(Vector3(from.get_half(), from.get_half(), from.get_half()))


static func _take_place(from: StreamPeerBuffer) -> Transform3D:
	var origin: Vector3 = _take_point(from)
	return Transform3D(_take_basis(from), origin)
