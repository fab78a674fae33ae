"""A small disk for the temporary folder of one component, so that it can be full."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

SIZE = "16m"
_BALLAST = "ballast"


class SmallDisk:
    """A file system in memory, mounted on a folder. Only root may mount: see :meth:`available`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "endurance", str(folder)], check=True)

    @staticmethod
    def available() -> bool:
        """Whether this process may mount a file system."""
        return os.geteuid() == 0

    def fill(self) -> None:
        """Leave no byte free."""
        with (self._folder / _BALLAST).open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 65536)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def clear(self) -> None:
        """Give the bytes back."""
        (self._folder / _BALLAST).unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount, even if a process still has a file open."""
        subprocess.run(["umount", "--lazy", str(self._folder)], check=True)
