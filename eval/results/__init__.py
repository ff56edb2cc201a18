"""What an evaluation leaves behind: its folder, the answered questions in it, and the scores over them.

Open `folder.py` first, then `prediction.py` and `summary.py`. Intervals, comparisons and tables are here.
Imports `r1_searcher.run` and what lies below it. Not here: how answers are obtained (`play`), and the page (`report`).
"""
