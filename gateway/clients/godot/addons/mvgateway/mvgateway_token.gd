extends "res://addons/mvgateway/mvgateway_link.gd"
## By which the gateway lets us in, and the next one before that ends (docs/ACCESS.md). [MVGateway] stands on it.

const TOKEN_MARGIN_S: float = 300.0

## By which the gateway lets us in: a String, or a Callable that answers a fresh one (it may await). It is called
## before the old one ends, and the session goes on. Never shown.
var token: Variant = null
var _held: String = ""      # the newest token of a Callable
var _renew_at: float = INF  # when a fresh one is wanted, Unix seconds


func _current_token() -> String:
	if not token is Callable:
		return "" if token == null else str(token).strip_edges()
	if _held == "" or Time.get_unix_time_from_system() >= _renew_at:
		await _fetch_token()
	return _held


func _fetch_token() -> void:
	_renew_at = INF
	var source: Callable = token
	@warning_ignore("redundant_await")
	var made: String = str(await source.call()).strip_edges()
	var now: float = Time.get_unix_time_from_system()
	if made == "" or made == "<null>":
		_renew_at = now + 1.0
		return
	_held = made
	var left: float = _expiry(_held) - now
	_renew_at = now + left - minf(maxf(left, 0.0) / 4.0, TOKEN_MARGIN_S)


## When a token ends by its own word (RFC 7519, exp), Unix seconds; INF where it does not say.
static func _expiry(by: String) -> float:
	var parts: PackedStringArray = by.split(".")
	if parts.size() != 3:
		return INF
	var text: String = parts[1].replace("-", "+").replace("_", "/")
	var found: Variant = JSON.parse_string(Marshalls.base64_to_utf8(text + "=".repeat((4 - text.length() % 4) % 4)))
	if not found is Dictionary:
		return INF
	var claims: Dictionary = found
	var exp_at: Variant = claims.get("exp")
	if exp_at is float:
		var at: float = exp_at
		return at
	return INF


func _renew() -> void:
	if not token is Callable:
		_renew_at = INF
		return
	var attempt: int = _attempt
	var before: String = _held
	await _fetch_token()
	if _held != before and attempt == _attempt:
		control({"type": "token", "token": _held})
