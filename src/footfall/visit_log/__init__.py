"""The visits log: the format of a line, the sink that writes them, the file it appends to, and its state."""
