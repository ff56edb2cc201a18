"""`python -m data_prep.questions`: public question sets, each in its release's own format, to the project's rows.

Open first: `qa_datasets`, one row per set; `raw_rows` reads its file, folder or hub copy.
`near_duplicates` finds training questions that stand in a test set, for `python -m data_prep.decontaminate`.
Imports `r1_searcher.episode.question` and `foundation`. Not here: choosing questions by difficulty (`select`).
"""
