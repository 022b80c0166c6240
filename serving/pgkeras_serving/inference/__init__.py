"""Computing actions: the queue, batches, the threads that run engines, cores and warm-up.

Start with ``batcher.py``. Takes and returns arrays; knows no messages and no connections.
"""
