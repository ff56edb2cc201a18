"""The host seam: everything that starts OpenRLHF or makes it run where it does not expect to."""
