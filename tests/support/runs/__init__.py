"""What runs leave behind: folders, episode logs, checkpoints, and reports of them, in a browser too."""
