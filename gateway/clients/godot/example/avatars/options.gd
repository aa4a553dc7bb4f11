class_name AvatarOptions
extends RefCounted
## What was said on the command line after "--", and what is made of it.


static func said(option: String, otherwise: String) -> String:
	for argument: String in OS.get_cmdline_user_args():
		if argument.begins_with("--%s=" % option):
			return argument.get_slice("=", 1) if argument.count("=") == 1 else argument.substr(option.length() + 3)
	return otherwise


## The gateway's node, as the command line says.
static func connected_to(gateway: MVGateway, role: String) -> MVGateway:
	gateway.url = said("url", "wss://127.0.0.1:4433")
	gateway.world = said("world", "avatars")
	gateway.role = role
	gateway.ca_file = said("ca", "")
	if said("token", "") != "":
		gateway.token = said("token", "")
	var _failed: int = gateway.refused.connect(func(code: String, detail: String) -> void: push_error("%s: %s" % [code, detail]))
	return gateway


## Both ends have the same scenes and the same properties.
static func synchronizer(gateway: MVGateway, root: Node) -> MVGatewaySynchronizer:
	var made: MVGatewaySynchronizer = MVGatewaySynchronizer.new()
	var scene: PackedScene = load("res://avatars/avatar.tscn")
	made.scenes = [scene]
	made.properties = [^".:transform", ^".:tint"]
	made.gateway = gateway
	made.root_path = root.get_path()
	return made
