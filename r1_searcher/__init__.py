"""R1-Searcher: reinforcement learning for language models that search while they think."""

__version__ = "0.1.0"
