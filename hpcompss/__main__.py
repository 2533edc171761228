"""Lets the command line be run as ``python -m hpcompss``."""

import sys

from hpcompss.main import main

sys.exit(main())
