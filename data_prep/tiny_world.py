"""`python -m data_prep.tiny_world`: the command for `data_prep.tiny.world`."""

import sys

from data_prep.tiny.world import main

if __name__ == "__main__":
    sys.exit(main())
