"""The web as a search source: search services, and pages that are fetched, read and cut to what matters.

Open first: `search` (`WebRetriever` over the services of `engines` or `duckduckgo`) and `pages` (`PageRetriever`,
and `SearchAndRead`, which searches and then reads). Both keep to a rate limit and may remember answers on disk.
Imports `client` and `foundation` for HTTP and retries, `index` to choose parts of a page, `wire` and the nouns of
`retriever`. Not here: which source a user names; that is one string, read by `retriever.sources`.
"""
