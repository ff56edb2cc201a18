"""The report of trainings and evaluations: one HTML file that opens without a network.

Open `__main__.py` first (`python -m eval.report DIR`), then `runs.py` (what was found) and `page.py` (what is
drawn); `assets/` holds the page's scripts and styles. Imports `results` and what lies below it. Not here: any figure
that is not already in a run's or an evaluation's folder.
"""
