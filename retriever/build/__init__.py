"""`python -m retriever.build`: an index of a corpus that does not fit into memory, in steps that survive a kill.

Open first: `steps`, from passages to a saved index; `embeddings` keeps the encoder's vectors in shards.
`costs` measures what an index would take, for `python -m retriever.plan`.
Imports `index`, the nouns of `retriever` and `foundation`. Not here: cutting dumps into passages (`data_prep.corpus`).
"""
