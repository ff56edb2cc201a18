"""What means ill, or looks like it: web pages, files, functions, reward hacking; and secrets that must not leak.

`python -m support.hostile.web_site` and `.reward_attack` search further than the suite does.
"""
