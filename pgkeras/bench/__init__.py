"""Load on a policy server: what it answers in which time, as its callers see it. Light: NumPy and gRPC."""

from pgkeras.bench.load import Load
from pgkeras.bench.report import Report
from pgkeras.bench.runner import run

__all__ = ["Load", "Report", "run"]
