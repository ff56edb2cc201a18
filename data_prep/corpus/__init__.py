"""`python -m data_prep.corpus`: dumps of many formats to a store of passages, on all cores, also after a kill.

Open first: `units`, which cuts large files into pieces that processes share; formats are rows of
`retriever.index.formats`. Imports `retriever.index`, also for the store, and `foundation`. Not here: the index over a
store (`retriever.build`).
"""
