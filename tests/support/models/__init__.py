"""Models and tokenizers made on the spot, in the forms in which published ones come: small, random, on files.

Open `small_qwen.py` first for a model that vLLM loads; `subjects.py` has one for each fault that the doctor finds.
"""
