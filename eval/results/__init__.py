"""What an evaluation leaves behind: its folder, the answered questions in it, and the scores over them.

Open `predictions.py` first (what is read), then `summary.py` and `scores.py` (what is written). Intervals, comparisons
and tables are here.
Imports `r1_searcher.run` and what lies below it. Not here: how answers are obtained (`play`), the page (`report`), and
the record of an answered question itself (`r1_searcher.run.episode_record`).
"""
