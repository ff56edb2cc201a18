"""``python -m r1_searcher.doctor``: does this recipe work with this model, this search service, on this machine?

Every check is a function of one :class:`~r1_searcher.doctor.subject.Subject` and gives one
:class:`~r1_searcher.doctor.finding.Finding`; the table is :data:`r1_searcher.doctor.checks.CHECKS`.  No engine is
started unless it is asked for.
"""
