"""``python -m airflow_bifrost.testing``: a local gateway as a process, which prints its URL and nothing else."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from airflow_bifrost.testing.server import LocalGateway


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m airflow_bifrost.testing", description="A local Bifrost gateway.")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to bind (default: a free one)")
    parser.add_argument(
        "--batch-seconds", type=float, default=2.0, help="from creation to the end (default: %(default)s)"
    )
    parser.add_argument("--state", help="SQLite file that keeps everything (default: a temporary one)")
    parser.add_argument(
        "--virtual-key", action="append", metavar="TOKEN", help="a virtual key that exists (repeatable)"
    )
    parser.add_argument("--enforce-auth", action="store_true", help="refuse calls without a virtual key")
    parser.add_argument("--verbose", action="store_true", help="log requests to stderr")
    options = parser.parse_args(argv)
    gateway = LocalGateway(
        batch_seconds=options.batch_seconds,
        state=options.state,
        host=options.host,
        port=options.port,
        virtual_keys=options.virtual_key,
        enforce_auth=options.enforce_auth,
    )
    gateway.run(lambda url: print(url, flush=True), verbose=options.verbose)


if __name__ == "__main__":
    main()
