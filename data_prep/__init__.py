"""Data before training: question sets, corpora, chosen training questions, a simulator's data, and the tiny world.

Open first: `docs/data.md`, then the room of the data that you need; each room's command is `python -m data_prep.ROOM`.
The modules beside the rooms are commands over several of them (`decontaminate`, `good_trajectories`, `tiny_world` …).
Imports `eval`, `r1_searcher`, `retriever` and `foundation`; training and evaluation read its files only.
"""
