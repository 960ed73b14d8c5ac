"""What a client may take of a collector: bytes, time, answers it is owed."""

from typing import Final

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_FIELDS: Final = 256
"""Lines of a head; RFC 9110 has repeated ones joined, which costs more the more there are."""
MAX_BODIES_BYTES: Final = 64 * 1024 * 1024
"""Of all requests being read, together."""
MAX_UNREAD_BYTES: Final = 64 * 1024 * 1024
"""Of all answers that clients do not take, together."""
IDLE_S: Final = 75
HEAD_S: Final = 10
BODY_S: Final = 30
READ_S: Final = 30
"""For a client to take an answer it asked for."""
LINGER_S: Final = 2
LINGER_BYTES: Final = 1024 * 1024
"""After a refusal the rest of the request is thrown away this long, so that the client gets to read the answer."""
MAX_PIPELINED: Final = 64
"""Answers a connection may be owed before it is read from no further."""
PIECE_BYTES: Final = 4 * 1024
"""What is parsed of a connection's input before others have their turn: some 200 of the smallest requests, 4 ms."""
UNREAD_BYTES: Final = 16 * 1024
"""Answers a connection may leave unread before it is read from no further."""
