"""Recordings: read wherever they are, verified, cut into films, moved to archives, branched. Room: recordings.

What a world recorded is asked here by the verbs and by the gateway's routes: its rows from ``store/world``, its frames from
``wire``, the state from ``core``; a recording behind another gateway by the requests of ``client``. Nothing of QUIC, of ASGI or of
the process that serves enters.
"""
