"""The end of a recording: which messages were the last ones. Room: store.

A batch is committed while parts of its ticks may still come. Where the gateway ends before they do, or before the gap is
recorded that they leave, the rows alone tell what is missing.
"""

from __future__ import annotations

from typing import Final

import apsw

from gateway.errors import MalformedMessage
from gateway.limits import RECOVERED_TAIL_ROWS_MAX
from gateway.store.world import reading
from gateway.wire.framecodec import FrameDecoder
from gateway.wire.frames import decode_frame

_BEFORE: Final = "SELECT tick FROM frames WHERE seq >= ? AND seq < ? AND epoch = ? AND keyframe = 0"


def newest_messages(
    connection: apsw.Connection, epoch: int, last_seq: int
) -> tuple[tuple[int, int, int], ...]:
    """(tick, part, parts) of the messages of ``epoch`` in the last rows up to ``last_seq``. Of a tick that began before
    those, nothing: it would look as if parts of it were missing."""
    first = last_seq - RECOVERED_TAIL_ROWS_MAX + 1
    start = reading.keyframe_at_seq(connection, first) or reading.first_row(connection)
    if start is None:
        return ()
    decoder, found = FrameDecoder(), list[tuple[int, int, int]]()
    # Ticks that began before the span that is decoded: some of their parts lie outside of it.
    begun = {tick for (tick,) in connection.execute(_BEFORE, (first - RECOVERED_TAIL_ROWS_MAX, first, epoch))}
    for seq, of, tick, _, _, is_keyframe, codec, body in reading.packed_rows(connection, start.seq):
        try:
            messages = decoder.decode(codec, body)
        except MalformedMessage:
            continue  # damaged: it decodes again from the next row that stands alone
        if seq >= first and of == epoch and not is_keyframe and tick not in begun:
            found += [(frame.tick, frame.part, frame.parts) for frame in map(decode_frame, messages)]
    return tuple(found)
