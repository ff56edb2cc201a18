"""The pages `docs/results/*.md`, of which each benchmark writes its own section.

Open first: `page`, which replaces one section and leaves the others alone. `numbers` says how many digits are kept.
Imports `foundation`. Not here: what is measured, and the tables, which stand with each benchmark.
"""
