"""Settings of every test."""

import os

from hypothesis import settings

# A deadline would make every property a test of how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Tests side by side (pytest -n) share the cores; torch would start a thread per core in each worker and its processes.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
