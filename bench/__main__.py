"""Entrepot beside its peers: `make bench`, `python -m bench W1 W3 --quick`."""

import sys

from bench.command import main

try:
    status = main(sys.argv[1:])
except KeyboardInterrupt:
    status = 130  # as shells have it; all that was started is stopped by now
sys.exit(status)
