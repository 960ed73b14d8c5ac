"""What every file of ours needs: safe opening, sync, locks, checksums, the meaning of SQLite's errors, quarantine."""
