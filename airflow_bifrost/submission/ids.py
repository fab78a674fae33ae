"""The ID of each row: the one that it sets, or one that is made from its position. All IDs are unique within the input."""

from __future__ import annotations

import hashlib
import re
from array import array
from bisect import bisect_left

import msgspec

from airflow_bifrost.providers.forms import IdRule
from airflow_bifrost.submission.bad_rows import BadRow, shown


def automatic_id(place: int) -> str:
    """The ID of a row that sets no ID.

    :param place: position of the row in the whole input, from 1.
    """
    return f"row-{place:09d}"


_AUTOMATIC = re.compile(r"row-(0[0-9]{8}|[1-9][0-9]{8,17})")


class UniqueIds:
    """Checks that no two rows have the same ID.

    It keeps about 100 bytes for each row that sets its ID, and nothing for the others: an automatic ID follows from the position.

    :param rule: which IDs the provider accepts.
    """

    def __init__(self, rule: IdRule) -> None:
        self._rule = rule
        self._given: set[bytes] = set()  # digests
        self._places = array("Q")  # of the rows that set an ID, ascending
        self.claimed: set[int] = set()  # places whose automatic ID an earlier row has

    def take(self, custom_id: str, place: int) -> None:
        """Note a row that sets its ID."""
        self._places.append(place)
        if not self._rule.pattern.fullmatch(custom_id):
            raise BadRow(f"has the id {shown(custom_id)}: it must be {self._rule.description}")
        digest = hashlib.blake2b(custom_id.encode(errors="surrogatepass"), digest_size=16).digest()
        if digest in self._given:
            raise BadRow(f"has the id {shown(custom_id)}, which an earlier row has too")
        self._given.add(digest)
        if found := _AUTOMATIC.fullmatch(custom_id):
            number = int(found[1])
            if number > place:
                self.claimed.add(number)
            elif 0 < number < place and not self._has_own(number):
                raise BadRow(f"has the id {custom_id!r}, which an earlier row without an id was given")

    def take_automatic(self, place: int) -> None:
        """Note a row that sets no ID and gets the one of its position."""
        if place in self.claimed:
            raise BadRow(f"would be given the id {automatic_id(place)!r}, which an earlier row has: give it an id")

    def _has_own(self, place: int) -> bool:
        index = bisect_left(self._places, place)
        return index < len(self._places) and self._places[index] == place


class _Identified(msgspec.Struct):
    """The members of a line that may hold the ID, in the spelling of each provider."""

    custom_id: str | None = None
    key: str | None = None
    recordId: str | None = None  # noqa: N815


class _Labels(msgspec.Struct):
    bifrost_custom_id: str = ""


class _Request(msgspec.Struct):
    labels: _Labels = msgspec.field(default_factory=_Labels)


class _Labeled(msgspec.Struct):
    """A line whose ID is a label of the request: Vertex's."""

    request: _Request = msgspec.field(default_factory=_Request)


_decode_identified = msgspec.json.Decoder(_Identified).decode
_decode_labeled = msgspec.json.Decoder(_Labeled).decode


def custom_id_of(line: bytes) -> str:
    """The ID of a request line that this package has written."""
    found = _decode_identified(line)
    custom_id = found.custom_id or found.key or found.recordId
    return custom_id or _decode_labeled(line).request.labels.bifrost_custom_id
