"""How much of a collector clients may use: bytes, seconds, pending answers."""

from typing import Final

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_FIELDS: Final = 256
"""Header lines of a request. RFC 9110 joins repeated ones, so each costs more than the one before."""
MAX_BODIES_BYTES: Final = 64 * 1024 * 1024
"""All bodies that are being read, together."""
MAX_UNREAD_BYTES: Final = 64 * 1024 * 1024
"""All answers that clients have not read, together."""
IDLE_S: Final = 75
HEAD_S: Final = 10
BODY_S: Final = 30
READ_S: Final = 30
"""How long a client may leave an answer untouched."""
LINGER_S: Final = 2
LINGER_BYTES: Final = 1024 * 1024
"""How much of a refused request is read and dropped. A reset would keep its client from reading the answer."""
MAX_PIPELINED: Final = 64
"""The server reads no further from a connection with more pending answers."""
PIECE_BYTES: Final = 4 * 1024
"""How much of a connection's input is parsed in one turn: at most some 200 of the smallest requests, 4 ms."""
UNREAD_BYTES: Final = 16 * 1024
"""The server reads no further from a connection with more unread bytes of answers."""
