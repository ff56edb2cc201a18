"""Recipes: the systems that can be trained, each a row that names a protocol, a reward and limits.

Open `recipe.py` first, then `protocols.py`; `prompts/` holds the prompt texts, `plugins.py` adds a user's own rows, and
`schedule.py` tells how far a run is. Imports `reward`, `episode` and what lies below them. Not here: the optimiser's
hyper-parameters, which are OpenRLHF's flags and stand in `train_scripts/presets`.
"""
