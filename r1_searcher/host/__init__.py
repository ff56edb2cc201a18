"""The seam to OpenRLHF, the host: what starts it, what it calls, and what makes it run without CUDA.

Open `agent.py` first: OpenRLHF calls its `execute` once per episode. `command.py` and `preflight.py` build and check
OpenRLHF's command line, `supervisor.py` watches its process, `cpu.py` holds the only patches. Imports every room of
`r1_searcher` below it and the retriever. Not here: anything that an episode or a reward needs to know.
"""
