"""``python -m pgkeras_serving.workers DESCRIPTOR``: a worker process, started by the supervisor."""

import sys

from pgkeras_serving.workers.worker import main

main(int(sys.argv[1]))
