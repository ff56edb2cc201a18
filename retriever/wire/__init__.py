"""What goes over HTTP between a search client and a server: each system's bodies, in both directions.

Open first: `formats`, one row per published system's request and answer.
`answers` holds the shapes of hits, `bodies` what all formats share (limits, health, errors, strict JSON).
Imports the nouns of `retriever` (passages, interfaces) only; who sends bodies is `client`, who answers them `server`.
"""
