"""`python -m r1_searcher.doctor`: does this recipe work with this model, this search service, on this machine?

Every check is a function of one `Subject` and gives one
`Finding`; the table is `r1_searcher.doctor.checks.CHECKS`. No engine is
started unless it is asked for.
"""
