"""Benchmarks of mvgateway: how to run them and how to read them is in docs/BENCHMARKS.md."""
