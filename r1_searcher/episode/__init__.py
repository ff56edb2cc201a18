"""One episode: a question, what the policy writes, what the search returns, and the record of it.

Open `rollout.py` first: `run_episode` is the loop that training, evaluation and benchmarks share. `protocol.py`,
`question.py`, `limits.py` and `trajectory.py` hold its nouns. Imports the foundation and the retriever's nouns only.
Not here: whether an episode was good (`reward`), and which protocols there are (`recipe`).
"""
