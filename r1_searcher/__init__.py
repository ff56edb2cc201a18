"""R1-Searcher: reinforcement learning for language models that search while they think.

The rooms, from below: `episode`, `reward`, `own_agent` and `recipe` are what is played and rewarded; `run`, `memory`,
`host` and `inspection` train it on OpenRLHF; `launch`, `doctor`, `inference` and `agent_service` start it, check it and
ask it. Open `episode/rollout.py` first. The modules beside the rooms are the commands (`train`, `sft`, `ask`, `serve`,
`export`, the reward server) and may import every room; no room imports them. Imports `retriever` and `foundation`.
"""

__version__ = "0.1.0"
