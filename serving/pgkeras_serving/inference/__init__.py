"""Computing actions: the queue, batches, the threads that run engines, cores and warm-up.

Start with ``batcher.py``; ``scheduling.py`` chooses the next batch. Takes and returns arrays; knows no messages and no
connections.
"""
