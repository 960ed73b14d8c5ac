"""The visits log: the format of a line, the sink that appends them, and what it remembers."""
