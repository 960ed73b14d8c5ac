"""The queue: a log of batches, each committed once and read by every sink at its own pace.

A queue keeps batches in order and gives each a position: the `source` that committed it and a `sequence` that only
grows within that source. It does not remember for a sink what it has written, and never needs to: each sink keeps its
position with its output (see `footfall.queue.sink`). What a sink reports back serves retention and the ledger alone.
"""
