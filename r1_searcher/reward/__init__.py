"""Rewards: what a finished episode is worth, part by part.

Open `rewards.py` first: the table of rewards and the function that scores an episode. `metrics.py` has the answer
metrics, `parts.py` the parts, `rules_*.py` the format checks of the published systems, `judge.py` a language model as
judge. Imports `episode` and what lies below it. Not here: how a reward reaches OpenRLHF (`run`, `host`).
"""
