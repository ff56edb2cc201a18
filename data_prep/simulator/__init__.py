"""Training data for a model that plays the search engine: queries of an agent, with useful and useless documents.

Open first: `pairs`, what real search showed for which query; `labels` judges it, `rows` writes the examples.
The command is `python -m data_prep.simulator_data`.
Imports `retriever.simulated` for the prompts, `retriever.index`, `r1_searcher` and `foundation`.
"""
