"""The sinks: where batches end up, each entry exactly once."""
