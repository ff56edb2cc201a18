"""Playing an evaluation: every question of a dataset, asked once, through the training loop's own episodes.

Open `session.py` first, then `evaluation.py`. Policies come from vLLM in this process (`engine.py`, the only file of
the package that imports it) or from an endpoint. Imports `results`, `r1_searcher.host` and what lies below them. Not
here: training, and scores of what has been played already.
"""
