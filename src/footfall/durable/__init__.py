"""What survives a crash: sync, locks, checksums, SQLite's errors, and a damaged file put aside."""
