"""Load generator for policy servers: measures latency and throughput as callers see them. Needs NumPy and gRPC."""

from pgkeras.bench.load import Load
from pgkeras.bench.report import Report
from pgkeras.bench.runner import run

__all__ = ["Load", "Report", "run"]
