"""Passages on disk and indexes over them: BM25, dense vectors in FAISS, both fused, Milvus; their encoders.

Open first: `backends`, which builds an index in memory and opens a saved one by what its manifest says.
Passages come from `corpus` (JSON lines) or `store` (memory-mapped Arrow); each heavy library is known to one module.
Imports the nouns of `retriever` and `foundation`. Not here: building in files, which continues after a kill (`build`),
and answering many callers at once (`server`).
"""
