"""What code loads in a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

_SCRIPT = """
import json, os, sys

base, *cases = json.loads(sys.argv[1])
exec(base, {"__name__": "__main__"})
for *before, last in cases:
    sys.stdout.flush()
    if os.fork():
        assert os.wait()[1] == 0
        continue
    for step in before:
        exec(step, {"__name__": "__main__"})
    loaded = set(sys.modules)
    exec(last, {"__name__": "__main__"})
    print("loaded:", *(set(sys.modules) - loaded), flush=True)
    os._exit(0)
"""


def loaded_by(*cases: tuple[str, ...], base: str = "") -> list[set[str]]:
    """The modules that the last step of each case loads and that neither the steps before it nor ``base`` have loaded.

    The cases do not see each other: each runs in a fork of one interpreter, which has run ``base``.
    """
    command = [sys.executable, "-c", _SCRIPT, json.dumps([base, *cases])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("loaded:")]
    assert len(lines) == len(cases), done.stdout
    return [set(modules) for modules in lines]
