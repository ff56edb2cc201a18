"""Evaluation: ask a policy the questions of a dataset, score the answers, report what training changed.

The rooms: `results` is what an evaluation leaves behind and its statistics; above it, `play` asks the questions and
`report` draws the page. The modules beside the rooms are the commands: `run`, `score`, `compare`, `judge` and `rescore`
about one evaluation or several, `quickstart` and `real_run` (in `phases`) from a base model to a table. Open `run.py`
first. Imports `r1_searcher`, `retriever` and `foundation`, never `data_prep`; the rooms import no command. Not here:
the episode itself and the answer metrics, which are those of training.
"""
