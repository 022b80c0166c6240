"""``python -m pgkeras_serving.workers DESCRIPTOR``: one worker, which the supervisor starts."""

import sys

from pgkeras_serving.workers.worker import main

main(int(sys.argv[1]))
