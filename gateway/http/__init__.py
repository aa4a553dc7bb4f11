"""The routes (one ASGI app), and the links of WebSocket, HTTP streams and server-sent events. Room: http.

May enter: ``core``, ``wire``, and of ``store`` the interface (:mod:`gateway.store.base`) for the page plane; never ``quic``, which
serves the same app. To be used: :class:`gateway.http.app.Application`, and :class:`gateway.http.server.TcpServer` for TCP.
"""
