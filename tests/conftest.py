"""Settings of every test."""

from hypothesis import settings

# A deadline would make every property a test of how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
