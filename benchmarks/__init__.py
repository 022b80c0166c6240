"""Benchmarks: each a module to run, and each a ratio taken in one run beside a peer or a bound."""
