"""`python -m benchmarks.retriever`: the search server under load, beside its library and one-by-one service.

Open first: `__main__`, the table that it prints; `http_load` is the load generator, `server_process` starts a server.
Imports `retriever` only. Not here: many hours under load, or indexes of millions of passages, which are modules of
`benchmarks` itself.
"""
