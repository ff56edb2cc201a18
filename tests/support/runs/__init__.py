"""What runs leave behind: folders, episode logs, checkpoints, and reports of them, in a browser too.

Open `run_folders.py` first: it writes the files of a finished training; the others are built on it.
"""
