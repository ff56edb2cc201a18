"""A user's own agent, played as an episode: it talks to an OpenAI-compatible server, and what is said is recorded.

Open `player.py` first, then `conversation.py`: messages in, sampled ids out, spans kept; `history.py` matches messages
that come again. `chat_server.py` is HTTP and nothing else; `agents.py` starts what the user wrote. Imports
`r1_searcher.episode` and what lies below it. Not here: which runs have an agent of their own (`recipe`), and the
built-in loop (`episode/rollout.py`).
"""
