"""Data sets and the tiny world: what the trainer, the retriever and the evaluation read."""
