"""`python -m benchmarks.rollout`: the training loop's own rollout, with an engine whose time is scripted.

Open first: `workload`, the lengths and pauses of the episodes; `scripted_engine` replays them without a model.
Imports `r1_searcher` and `eval`, whose code is what is measured, and `data_prep.tiny` for questions.
Not here: answering searches quickly (`benchmarks.retriever`), and how well an agent learns (`docs/results.md`).
"""
