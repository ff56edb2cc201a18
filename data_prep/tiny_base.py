"""`python -m data_prep.tiny_base`: the command for `data_prep.tiny.base`."""

import sys

from data_prep.tiny.base import main

if __name__ == "__main__":
    sys.exit(main())
