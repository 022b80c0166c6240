"""``python -m pgkeras`` is the ``pgkeras`` command."""

from pgkeras.cli import main

main()
