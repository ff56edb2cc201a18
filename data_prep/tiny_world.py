"""`python -m data_prep.tiny_world`: the command; what it does stands in `data_prep.tiny.world`."""

import sys

from data_prep.tiny.world import main

if __name__ == "__main__":
    sys.exit(main())
