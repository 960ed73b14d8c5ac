"""The query API: figures in the shape of Plausible's Stats API, version 2 and version 1.

`names` has the vocabulary, `request` checks what version 2 is asked and `schema` describes it, `legacy` does both for
version 1. `date_range`, `filters` and `goals` turn parts of a request into parts of a `footfall.database.query.Query`;
`answer` puts the queries to the database and makes the answer of what comes back. `sites` lists the sites.

The shapes follow Plausible's public documentation (https://plausible.io/docs/stats-api); what Footfall does not have is
refused by name, never ignored.
"""
