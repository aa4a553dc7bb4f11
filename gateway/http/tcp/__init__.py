"""The TCP doors: HTTP/1.1, HTTP/2 and WebSocket for one ASGI app, with and without TLS. Room: http.

The protocols are parsed by h11, h2 and wsproto, which know no sockets; what is here accepts
(:mod:`acceptor`), finds out what is spoken (:mod:`opening`), holds one conversation a connection
(:mod:`http1`, :mod:`http2`), and keeps to bounds: of bytes (:mod:`gateway.http.budget`), of time (the
``deadline`` of each conversation), of frames that carry nothing (:mod:`frameguard`).
"""
