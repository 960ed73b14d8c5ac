"""What the SQL of two databases has in different words, and the values that a statement is to be run with.

Everything else of a statement is the same for both. Moments are microseconds since 1970 (UTC), as signed numbers of 64
bits, so that both do the same arithmetic with them.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Any


class Dialect(ABC):
    """Expressions for one statement.

    Attributes:
        parameters: the values that the statement is to be run with, by name.
    """

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}

    def bind(self, value: object) -> str:
        """Keep a value; return the name by which the statement has it."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return name

    @abstractmethod
    def events(self, site_id: str) -> str:
        """Where the events of a site are; there may be those of other sites, too."""

    @abstractmethod
    def text(self, value: str) -> str:
        """A text that is bound."""

    @abstractmethod
    def texts(self, values: Sequence[str]) -> str:
        """Texts that are bound, to be found `IN` them."""

    @abstractmethod
    def time(self, value: datetime) -> str:
        """A moment that is bound, to be compared with the column `time`."""

    @abstractmethod
    def moment(self, value: datetime) -> str:
        """A moment that is bound, in microseconds."""

    @abstractmethod
    def microseconds(self, time: str) -> str:
        """The column `time` in microseconds."""

    @abstractmethod
    def known(self, column: str) -> str:
        """A text column of `events`, empty where it is not known."""

    @abstractmethod
    def prop(self, name: str) -> str:
        """The text of a prop of the column `props`, empty where there is none."""

    @abstractmethod
    def bucket(self, moment: str, starts: Sequence[datetime]) -> tuple[str, str]:
        """What a relation is to be joined with, and the start of the bucket, in microseconds, that a moment is in."""

    @abstractmethod
    def contains(self, text: str, value: str) -> str:
        """Whether a text has another in it."""

    @abstractmethod
    def matches(self, text: str, pattern: str) -> str:
        """Whether a part of a text fits a pattern of RE2, in which a dot is any character."""

    @abstractmethod
    def each_that_holds(self, conditions: Sequence[tuple[str, str]]) -> str:
        """Of pairs of a text and a condition: a row for each text whose condition holds."""

    @abstractmethod
    def quotient(self, dividend: str, divisor: str) -> str:
        """How often one whole number, not negative, is in another; NULL for a divisor of 0."""

    @abstractmethod
    def together(self, *values: str) -> str:
        """Several values as one, ordered by the first, then the second, and so on."""

    @abstractmethod
    def part(self, values: str, number: int) -> str:
        """One of the values that are `together`, counted from 1."""

    def ratio(self, dividend: str, divisor: str) -> str:
        """A quotient to the nearest whole number, a half upwards; NULL for a divisor of 0."""
        return self.quotient(f"2 * {dividend} + {divisor}", f"2 * {divisor}")

    def is_one_of(self, text: str, values: Sequence[str], *, is_case_sensitive: bool) -> str:
        if is_case_sensitive:
            return f"{text} IN {self.texts(values)}"
        return self.matches(text, rf"(?i)\A(?:{_alternatives(values)})\z")

    def contains_one_of(self, text: str, values: Sequence[str], *, is_case_sensitive: bool) -> str:
        if is_case_sensitive:
            return " OR ".join(self.contains(text, value) for value in values)
        return self.matches(text, f"(?i)(?:{_alternatives(values)})")


def _alternatives(values: Sequence[str]) -> str:
    """A pattern for some texts themselves. Both databases have RE2, so they agree on which letters are the same."""
    return "|".join(re.sub(r"([\x00-\x7f])", _quoted, value) for value in values)


def _quoted(match: re.Match[str]) -> str:
    character = match[1]
    return character if character.isalnum() else f"\\x{ord(character):02x}"
