extends SceneTree
# What a test's script in the engine begins with: it says lines, waits for conditions, and is told things by files.

func _init():
	_go()


func _go():
	yield(self, "idle_frame")
	var going = run()
	if going is GDScriptFunctionState:
		yield(going, "completed")
	say("end", true)
	quit()


func run():
	pass


func say(name, value = null):
	print("\n" + JSON.print({"said": name, "value": value}))


static func hex(records):
	var all = {}
	for key in records:
		all[str(key)] = records[key].hex_encode()
	return all


static func unhex(text):
	if text == null:
		return null
	var out = PoolByteArray()
	for at in text.length() / 2:
		out.append(("0x" + text.substr(2 * at, 2)).hex_to_int())
	return out


static func file(path):
	var from = File.new()
	if from.open(path, File.READ) != OK:
		return ""
	var text = from.get_as_text()
	from.close()
	return text
