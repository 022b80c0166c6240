"""Inference: request queue, batching, worker threads, shared cores and warm-up.

Start with ``batcher.py``; ``scheduling.py`` chooses the next batch. This package takes and returns arrays. It does not
depend on protocol messages or connections.
"""
