class_name MVGatewayUDP
extends RefCounted
## Publish from a stock Godot server to the gateway beside it by plain UDP packets (loopback only).
##
##   gateway:  mvgateway serve --udp 127.0.0.1:4434
##   token:    POST /v1/worlds/arena/udp answers {"token": "16 hex digits", …}
##
##   var arena := MVGatewayUDP.new("127.0.0.1", 4434, token)
##   arena.send(tick, {7: bytes})

const FRAME := 1
const REMOVED := 0xFFFFFFFF
const HEADER := 24
const PACKET_MAX := 1400

var _peer := PacketPeerUDP.new()
var _token: PackedByteArray


func _init(host: String, port: int, token_hex: String) -> void:
	_token = token_hex.hex_decode()
	_peer.connect_to_host(host, port)


## One frame: key -> PackedByteArray, null removes. Ticks rise. The epoch is the session's.
func send(tick: int, changes: Dictionary) -> void:
	var groups := [[]]
	var size := HEADER
	for key: int in changes:
		var more: int = 8 + (0 if changes[key] == null else changes[key].size())
		if size + more > PACKET_MAX and not groups[-1].is_empty():
			groups.append([])
			size = HEADER
		groups[-1].append(key)
		size += more
	for part in groups.size():
		var out := StreamPeerBuffer.new()
		out.put_data(_token)
		out.put_u8(FRAME)
		out.put_u8(0)
		out.put_u16(part)
		out.put_u16(groups.size())
		out.put_u16(0)
		out.put_u32(0)
		out.put_u32(tick)
		out.put_u64(int(Time.get_unix_time_from_system() * 1_000_000))
		for key: int in groups[part]:
			out.put_u32(key)
			if changes[key] == null:
				out.put_u32(REMOVED)
			else:
				out.put_u32(changes[key].size())
				out.put_data(changes[key])
		_peer.put_packet(out.data_array)
