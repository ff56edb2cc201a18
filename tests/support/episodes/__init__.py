"""Scripted policies, search and tokenizers, and what is played with them: episodes, agents, evaluations, transcripts.

Open `fakes.py` first: the loop under test is the real one, only what surrounds it is scripted.
"""
