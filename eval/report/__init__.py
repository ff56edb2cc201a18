"""The report of a training or an evaluation: one HTML file that opens without a network.

A page of curves and scores, and every episode to look at. `python -m eval.report DIR` writes it.
"""
