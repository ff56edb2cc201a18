"""`python -m data_prep.select`: training questions chosen by how often a model answers them.

Open first: `selection`, the folder of one selection; `rollouts` plays the candidates, `difficulty` grades them.
Imports `eval.play` for the rollouts, `questions`, `r1_searcher` and `foundation`.
"""
