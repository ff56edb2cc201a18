"""`python -m data_prep.corpus`: dumps of many formats to a store of passages, on all cores, also after a kill.

Open first: `formats`, one row per dump; `units` cuts large files into pieces that processes share.
Imports `retriever.index` for the store, and `foundation`. Not here: the index over a store (`retriever.build`).
"""
