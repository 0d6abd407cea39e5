"""Entrepot beside its peers: `make bench`, `python -m bench W1 W3 --quick`."""

import sys

from bench.command import main

sys.exit(main(sys.argv[1:]))
