extends SceneTree
## What a test's script in the engine begins with: it says lines, waits for conditions, and is told things by files.

func _initialize() -> void:
	Engine.max_fps = 120
	_run.call_deferred()


func _run() -> void:
	@warning_ignore("redundant_await")
	await run()
	say("end", true)
	quit()


func run() -> void:
	pass


## One line for the test: a name and a value.
func say(name: String, value: Variant = null) -> void:
	print("\n" + JSON.stringify({"said": name, "value": value}))


## Wait until it holds, bounded.
func until(what: Callable, seconds: float = 60.0) -> bool:
	var end: int = Time.get_ticks_msec() + int(seconds * 1000)
	while not what.call():
		if Time.get_ticks_msec() > end:
			say("late", str(what.get_method()))
			return false
		await process_frame
	return true


## Wait until the test has told this.
func told(name: String) -> bool:
	return await until(func() -> bool: return FileAccess.file_exists("res://told-" + name), 120.0)


## What the test has told with it.
func text_of(name: String) -> String:
	return FileAccess.get_file_as_string("res://told-" + name)


func wait(seconds: float) -> void:
	await create_timer(seconds).timeout


static func hex(records: Dictionary) -> Dictionary:
	var all: Dictionary = {}
	var keys: Array = records.keys()
	keys.sort()
	for key: int in keys:
		var data: PackedByteArray = records[key]
		all[str(key)] = data.hex_encode()
	return all
