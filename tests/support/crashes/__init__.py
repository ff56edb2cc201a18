"""Ends that nobody chose: kills at every file, power cuts, two processes at once.

Open `kill_points.py` first: like the others it takes any command and ends it, for real, at every moment that matters.
"""
