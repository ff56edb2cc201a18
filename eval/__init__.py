"""Evaluation: ask a policy the questions of a dataset, score the answers, report what training changed."""
