"""What all packages stand on: errors, command lines, processes, files, JSON lines, retries, HTTP, workers.

Open first: `errors`, whose types decide a command's exit status, and `cli`, which every command runs through.
Each thought stands here once, for all packages above; what only one of them needs belongs to that package.
One room inside: `chat`, the client of language models.
Imports nothing of ours, and nothing of search, models or training is known here.
"""
