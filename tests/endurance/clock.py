"""The clock of one component, which can jump. Needs libfaketime."""

from __future__ import annotations

from pathlib import Path

FOLDERS = ("/usr/lib", "/usr/local/lib")


def library() -> Path | None:
    """The library that changes a process's clock; None if it is not installed."""
    found = [path for folder in FOLDERS for path in Path(folder).glob("**/faketime/libfaketimeMT.so.1")]
    return found[0] if found else None


def environment(preload: Path, file: Path) -> dict[str, str]:
    """The environment of a process whose clock is as the file says.

    The monotonic clock jumps, too, as it does for some programs after a virtual machine was suspended. libfaketime cannot leave it unchanged
    without breaking ``time.sleep``.
    """
    jump(file, 0)
    return {
        "LD_PRELOAD": str(preload),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
    }


def jump(file: Path, seconds: float) -> None:
    """Set the clock of the processes that read the file: so many seconds ahead of the true time."""
    file.write_text(f"{seconds:+.0f}\n")
