extends Node3D
## A client: it shows the world as it is. godot res://avatars/client.tscn

var gateway: MVGateway
var synchronizer: MVGatewaySynchronizer

@onready var _walkers: Node3D = $Walkers
@onready var _text: Label = $Text


func _ready() -> void:
	gateway = AvatarOptions.connected_to(MVGateway.new(), "subscribe")
	add_child(gateway)
	synchronizer = AvatarOptions.synchronizer(gateway, _walkers)
	add_child(synchronizer)


func _process(_delta: float) -> void:
	_text.text = "%s  tick %d  %d avatars  shown %d ms late" % [
		gateway.status_text(), gateway.tick, _walkers.get_child_count(), int(synchronizer.jitter.delay_s * 1000.0),
	]
