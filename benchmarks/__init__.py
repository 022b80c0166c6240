"""Benchmarks, one per module. Each measures a ratio to a peer or a bound within one run."""
