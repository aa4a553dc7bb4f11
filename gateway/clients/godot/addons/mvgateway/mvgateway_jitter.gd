class_name MVGatewayJitter
extends RefCounted
## When what came is to be shown: as much later as the network's unevenness asks for, and no more.
##
## Each frame comes some time after its sender's clock said; the least of these (of the last ten seconds) is the path
## at its best. What is shown is that much behind, and later by the lateness that was seen (its peak, which fades) and
## one interval between frames. The delay moves slowly, so that nothing jumps.

const WINDOW_S: float = 5.0
const JUMP_S: float = 2.0      ## clocks that differ by so much at once are another film, or another sender
const FADE: float = 0.3        ## of the peak lateness a second
const RISE: float = 0.5        ## seconds of delay a second
const FALL: float = 0.05

var delay_min_s: float = 0.0
var delay_max_s: float = 1.0
## The delay now, behind the path at its best.
var delay_s: float = 0.0
## The interval between frames, and the lateness that is reckoned with.
var interval_s: float = 1.0 / 60.0
var late_s: float = 0.0
## The sender's time of the newest frame.
var newest_s: float = -INF

var _best: float = INF
var _best_before: float = INF
var _window_at: float = -INF
var _seen_at: float = -INF
var _moved_at: float = -INF


## A frame of the sender's time [param sent_s] has come at [param now_s]. True where it is not of the same run of time as
## those before: forget them.
func come(sent_s: float, now_s: float) -> bool:
	var over: float = now_s - sent_s
	var base: float = minf(_best, _best_before)
	var jumped: bool = newest_s > -INF and (absf(over - base) > JUMP_S and absf(sent_s - newest_s) > JUMP_S or sent_s < newest_s - JUMP_S)
	if newest_s == -INF or jumped:
		newest_s = sent_s
		_best = over
		_best_before = INF
		_window_at = now_s
		late_s = 0.0
		_seen_at = now_s
		return jumped
	if now_s - _window_at > WINDOW_S:
		_best_before = _best
		_best = over
		_window_at = now_s
	_best = minf(_best, over)
	var late: float = over - minf(_best, _best_before)
	late_s = maxf(late, late_s * exp(-FADE * (now_s - _seen_at)))
	_seen_at = now_s
	if sent_s > newest_s:
		if sent_s - newest_s < 0.5:
			interval_s = lerpf(interval_s, sent_s - newest_s, 0.1)
		newest_s = sent_s
	return false


## The sender's time that is to be shown at [param now_s].
func shown(now_s: float) -> float:
	var wanted: float = clampf(interval_s + late_s, delay_min_s, delay_max_s)
	if _moved_at == -INF:
		delay_s = wanted
	else:
		var since: float = clampf(now_s - _moved_at, 0.0, 0.25)
		delay_s += clampf(wanted - delay_s, -FALL * since, RISE * since)
	_moved_at = now_s
	return now_s - minf(_best, _best_before) - delay_s
