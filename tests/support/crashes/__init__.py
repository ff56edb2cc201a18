"""Ends that nobody chose: kills at every file, power cuts, two processes at once."""
