"""``python -m airflow_bifrost.testing``: a local gateway as a process. Its URL is all that it prints on stdout."""

from __future__ import annotations

import argparse
import errno
import shlex
import sys
from collections.abc import Sequence

from airflow_bifrost.testing.local_gateway import LocalGateway
from airflow_bifrost.testing.versions import VERSIONS


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
    parser.add_argument(
        "--version", choices=VERSIONS, default="1.4", help="the gateway's version to answer like (default: %(default)s)"
    )
    parser.add_argument("--verbose", action="store_true", help="log requests to stderr")
    options = parser.parse_args(argv)
    gateway = LocalGateway(
        batch_seconds=options.batch_seconds,
        state=options.state,
        host=options.host,
        port=options.port,
        virtual_keys=options.virtual_key,
        enforce_auth=options.enforce_auth,
        version=options.version,
    )
    token = options.virtual_key[0] if options.virtual_key else None

    def announce(url: str) -> None:
        export = f"export AIRFLOW_CONN_BIFROST_DEFAULT={shlex.quote(gateway.connection_json(token))}"
        print(export, file=sys.stderr, flush=True)
        print(url, flush=True)

    try:
        gateway.run(announce, verbose=options.verbose)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        parser.exit(1, f"port {options.port} is taken; --port 0 takes a free one\n")


if __name__ == "__main__":
    main()
