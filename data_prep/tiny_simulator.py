"""`python -m data_prep.tiny_simulator`: the command for `data_prep.tiny.simulator`."""

import sys

from data_prep.tiny.simulator import main

if __name__ == "__main__":
    sys.exit(main())
