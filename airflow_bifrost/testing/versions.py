"""The versions of the gateway that the local one answers like. The code that makes an answer compares versions to decide what differs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A version of the gateway.

    :param number: major and minor version.
    :param release: the version number that the gateway reports.
    :param recorded: whether its answers follow recordings of a running gateway. If not, they follow the gateway's source.
    """

    number: tuple[int, int]
    release: str
    recorded: bool = True


V1_4 = Version((1, 4), "v1.4.19")
V1_5 = Version((1, 5), "v1.5.16")
V2 = Version((2, 2), "v2.2.6", recorded=False)

VERSIONS = {"1.4": V1_4, "1.5": V1_5, "2": V2}


def version_of(name: str) -> Version:
    """The version with that name.

    :raises ValueError: there is no such version.
    """
    if name not in VERSIONS:
        raise ValueError(f"version is one of {', '.join(VERSIONS)}, not {name!r}")
    return VERSIONS[name]
