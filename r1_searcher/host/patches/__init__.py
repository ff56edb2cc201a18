"""What is changed in OpenRLHF and vLLM on every machine, each change in a module of its own.

Open `host_patch.py` first: a change quotes the host's own text that it answers, and a test fails when the text is gone.
`r1_searcher/host/worker.py` installs them in every process. May import what `r1_searcher/host` may. Not here: what only
machines without CUDA need (`cpu.py`), nor what can be said by a flag (`command.py`).
"""
