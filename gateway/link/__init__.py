"""A link that delays and loses packets, for the demo and for benchmarks. Room: link.

:mod:`gateway.link.model` are its rules, pure; :mod:`gateway.link.namespaces` makes a real one between two network namespaces,
whose packets :mod:`gateway.link.carrier` moves; :mod:`gateway.link.relay` is what stands in where no namespace can be made.
"""
