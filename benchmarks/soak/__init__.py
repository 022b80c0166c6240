"""Stress and fault tests of a policy server: version swaps, overload, many sessions, kills and fuzzing."""
