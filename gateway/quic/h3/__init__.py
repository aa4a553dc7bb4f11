"""HTTP/3 on a connection: framing and its rules, requests as ASGI, WebTransport sessions. Room: quic."""
