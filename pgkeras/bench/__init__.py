"""Load on a policy server: what it answers in which time, as its callers see it. Light: NumPy and gRPC."""

from pgkeras.bench.load import Load, run
from pgkeras.bench.report import Report

__all__ = ["Load", "Report", "run"]
