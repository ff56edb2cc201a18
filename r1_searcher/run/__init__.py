"""A training run on disk: its folder, its configuration, and everything that is recorded about its steps.

Open `run_folder.py` first, then `run_config.py`. The logs of episodes and metrics, the guards that watch them, the
checkpoints that they can fall back to, and the sources of rewards are here. Imports `recipe`, `reward`, `episode` and
what lies below them. Not here: anything that imports OpenRLHF, Ray or torch (`host`).
"""
