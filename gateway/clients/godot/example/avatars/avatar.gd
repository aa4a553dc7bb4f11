class_name Avatar
extends Node3D
## What an avatar looks like.

## Its colour.
@export var tint: Color = Color.WHITE:
	set(value):
		tint = value
		if _body != null:
			_material.albedo_color = tint

var _material: StandardMaterial3D = StandardMaterial3D.new()

@onready var _body: MeshInstance3D = $Body


func _ready() -> void:
	_material.albedo_color = tint
	_body.material_override = _material
