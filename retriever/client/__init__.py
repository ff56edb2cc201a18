"""Asking search services over HTTP: attempts within a deadline, replicas with fail-over, typed failures.

Open first: `http_retriever`, the client of `retriever.server` and of the peers' servers.
Imports `wire`, the nouns of `retriever` and `foundation`. Not here: the web's search services and pages (`web`), the
language model that plays an engine (`simulated`), and which of them a user names (`retriever.sources`).
"""
