"""ZeroSearch: a language model plays the search engine, with a share of useless answers that grows during training.

Open first: `engine`, which draws the noise and asks the model; `prompts` writes what it is asked and reads its answer.
Imports `foundation` for the chat client, `wire` and the nouns of `retriever`. Not here: training a simulator, which is
`data_prep.simulator`.
"""
