extends Reference
# What Godot 4's var_to_bytes wrote, in Godot 3: Vector2i is a Vector2, Quaternion a Quat, Transform3D a Transform, StringName a String; what 3 has no type for
# (Vector4, Projection, arrays of 64 bits or of Vector4) is an Array of numbers. Objects, callables and signals are never made. Source: godotengine/godot,
# core/io/marshalls.cpp.

const DEPTH_MAX := 64

var _from := StreamPeerBuffer.new()
var _failed := false


# null where it is none, as where it is null: see is_one.
static func decode(bytes: PoolByteArray):
	return _whole(bytes)[0]


# Whether it is a Variant of Godot 4 that has a value here, whole.
static func is_one(bytes: PoolByteArray) -> bool:
	return _whole(bytes)[1]


static func _whole(bytes: PoolByteArray) -> Array:
	var reader = load("res://addons/mvgateway/mvgateway_variant4.gd").new()
	reader._from.data_array = bytes
	var value = reader._value(DEPTH_MAX)
	if reader._failed or reader._left() != 0:
		return [null, false]
	return [value, true]


func _left() -> int:
	return _from.get_size() - _from.get_position()


func _fail():
	_failed = true
	return null


func _u32() -> int:
	if _left() < 4:
		_failed = true
		return 0
	return _from.get_u32()


# How many elements of at least so many bytes follow.
func _count(bytes: int) -> int:
	var count := _u32() & 0x7FFFFFFF
	if count * bytes > _left():
		_failed = true
		return 0
	return count


func _numbers(count: int, wide: bool) -> Array:
	var found := []
	if count * (8 if wide else 4) > _left():
		_failed = true
		for _at in count:
			found.append(0.0)
		return found
	for _at in count:
		found.append(_from.get_double() if wide else _from.get_float())
	return found


func _integers(count: int, wide: bool) -> Array:
	var found := []
	if count * (8 if wide else 4) > _left():
		_failed = true
		for _at in count:
			found.append(0)
		return found
	for _at in count:
		found.append(_from.get_64() if wide else _from.get_32())
	return found


func _text() -> String:
	var size := _count(1)
	var text: String = _from.get_data(size)[1].get_string_from_utf8() if size > 0 else ""
	_pad(size)
	return text


func _pad(size: int) -> void:
	var more := (4 - size % 4) % 4
	if more > _left():
		_failed = true
	elif more > 0:
		_from.seek(_from.get_position() + more)


func _value(depth: int):
	var header := _u32()
	if _failed or depth == 0:
		return _fail()
	var wide := header & (1 << 16) != 0
	match header & 0xFF:
		0:
			return null
		1:
			return _u32() != 0
		2:
			return _integers(1, wide)[0]
		3:
			return _numbers(1, wide)[0]
		4, 21:
			return _text()
		6, 8, 10, 13:
			return _whole_numbers(header & 0xFF)
		5, 7, 9, 11, 12, 14, 15, 16, 17, 18, 19:
			return _math(header & 0xFF, wide)
		20:
			var c := _numbers(4, false)
			return Color(c[0], c[1], c[2], c[3])
		22:
			return _path()
		27:
			return _dictionary(header, depth)
		28:
			return _array(header, depth)
		29, 30, 31, 32, 33, 34, 35, 36, 37, 38:
			return _packed(header & 0xFF, wide)
	return _fail()


func _whole_numbers(type: int):
	var n := _integers({6: 2, 8: 4, 10: 3, 13: 4}[type], false)
	match type:
		6:
			return Vector2(n[0], n[1])
		8:
			return Rect2(n[0], n[1], n[2], n[3])
		10:
			return Vector3(n[0], n[1], n[2])
	return n


func _math(type: int, wide: bool):
	var n := _numbers({5: 2, 7: 4, 9: 3, 11: 6, 12: 4, 14: 4, 15: 4, 16: 6, 17: 9, 18: 12, 19: 16}[type], wide)
	match type:
		5:
			return Vector2(n[0], n[1])
		7:
			return Rect2(n[0], n[1], n[2], n[3])
		9:
			return Vector3(n[0], n[1], n[2])
		11:
			return Transform2D(Vector2(n[0], n[1]), Vector2(n[2], n[3]), Vector2(n[4], n[5]))
		14:
			return Plane(n[0], n[1], n[2], n[3])
		15:
			return Quat(n[0], n[1], n[2], n[3])
		16:
			return AABB(Vector3(n[0], n[1], n[2]), Vector3(n[3], n[4], n[5]))
		17:
			return _basis(n)
		18:
			return Transform(_basis(n), Vector3(n[9], n[10], n[11]))
	return n


# Rows in the bytes, columns in the constructor.
static func _basis(n: Array) -> Basis:
	return Basis(Vector3(n[0], n[3], n[6]), Vector3(n[1], n[4], n[7]), Vector3(n[2], n[5], n[8]))


func _path():
	var head := _u32()
	if head & 0x80000000 == 0:
		return _fail()
	var names := head & 0x7FFFFFFF
	var below := _u32()
	var flags := _u32()
	if flags & 2:
		below += 1
	if (names + below) * 4 > _left():
		return _fail()
	var path := PoolStringArray()
	for _at in names:
		path.append(_text())
	var text := ("/" if flags & 1 else "") + path.join("/")
	for _at in below:
		text += ":" + _text()
	return null if _failed else NodePath(text)


# The type of elements, of typed arrays and dictionaries: nothing that 3 could keep.
func _skip_kind(kind: int) -> void:
	if kind == 1:
		var _type := _u32()
	elif kind > 1:
		var _name := _text()


func _dictionary(header: int, depth: int):
	_skip_kind(header >> 16 & 3)
	_skip_kind(header >> 18 & 3)
	var found := {}
	for _at in _count(8):
		var key = _value(depth - 1)
		var value = _value(depth - 1)
		if _failed:
			return null
		found[key] = value
	return found


func _array(header: int, depth: int):
	_skip_kind(header >> 16 & 3)
	var found := []
	for _at in _count(4):
		found.append(_value(depth - 1))
		if _failed:
			return null
	return found


func _packed(type: int, wide: bool):
	match type:
		29:
			var size := _count(1)
			var bytes: PoolByteArray = _from.get_data(size)[1] if size > 0 else PoolByteArray()
			_pad(size)
			return bytes
		30:
			return PoolIntArray(_integers(_count(4), false))
		31:
			return _integers(_count(8), true)
		32:
			return PoolRealArray(_numbers(_count(4), false))
		33:
			return _numbers(_count(8), true)
		34:
			var texts := PoolStringArray()
			for _at in _count(4):
				texts.append(_text())
				if _failed:
					return null
			return texts
	var each: int = {35: 2, 36: 3, 37: 4, 38: 4}[type]
	var bytes_each := each * (8 if wide and type != 37 else 4)
	var found := []
	for _at in _count(bytes_each):
		var n := _numbers(each, wide and type != 37)
		match type:
			35:
				found.append(Vector2(n[0], n[1]))
			36:
				found.append(Vector3(n[0], n[1], n[2]))
			37:
				found.append(Color(n[0], n[1], n[2], n[3]))
			38:
				found.append(n)
	match type:
		35:
			return PoolVector2Array(found)
		36:
			return PoolVector3Array(found)
		37:
			return PoolColorArray(found)
	return found
