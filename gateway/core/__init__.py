"""The rules: a world's state, fan-out and repair, the journal's policy, sessions, grants. Room: core; pure.

May enter: values of ``wire``, times as arguments. No asyncio, socket, clock, aioquic, httpx or apsw; what the rules need of
a transport, and the doors of the rules, are the protocols of :mod:`gateway.core.ports`.
"""
