"""How a service is doing: health, readiness, the ledger, metrics, and who may read them."""
