"""The chat client: language models behind OpenAI-compatible servers, bounded, typed and counted.

Open first: `endpoint`, which asks one. `clients` holds the library's connections and keys, `replies` what servers say.
May import: the rest of `foundation`.
"""
