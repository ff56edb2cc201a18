"""The seam to OpenRLHF, the host: what it calls, the command line it is given, and what makes it run without CUDA.

Open `agent.py` first: OpenRLHF calls its `execute` once per episode. `command.py` builds OpenRLHF's command line,
`driver.py` is its process, `cpu.py` and `patches` hold what is changed in it. Imports every room of `r1_searcher` below
it and the retriever. Not here: anything that an episode or a reward needs to know, nor what starts and watches it
(`r1_searcher/launch`).
"""
