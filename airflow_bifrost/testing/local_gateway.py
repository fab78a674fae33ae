"""The local gateway for users and tests: a thread of this process, or a process in the foreground."""

from __future__ import annotations

import json
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from airflow_bifrost.testing.app import App
from airflow_bifrost.testing.arguments import DEFAULT_KEYS, KEYS
from airflow_bifrost.testing.behavior import Behaviors, ProviderBehavior
from airflow_bifrost.testing.faults import Fault, FaultPlan
from airflow_bifrost.testing.gateway import Gateway
from airflow_bifrost.testing.governance import Governance, VirtualKey
from airflow_bifrost.testing.providers import CONFIGURED, check_names, provider_of
from airflow_bifrost.testing.recorder import RecordedRequest, Recorder
from airflow_bifrost.testing.server import Server, listen
from airflow_bifrost.testing.store import Store
from airflow_bifrost.testing.versions import version_of


class LocalGateway:
    """A local Bifrost gateway in a thread, as a context manager.

    :param batch_seconds: seconds from a batch's creation to its end; 0 ends it at once.
    :param state: path of the SQLite file that keeps everything; None: a temporary one, removed on stop.
    :param host: address to bind; loopback unless told otherwise.
    :param port: port to bind; 0 takes a free one.
    :param virtual_keys: the virtual keys that exist; None: any token beginning with ``sk-bf-`` is one.
    :param enforce_auth: whether a call without a virtual key is refused.
    :param keys: provider -> a restriction of the gateway's keys for it: ``none`` (it has no key) or ``not_for_batches`` (none
        has ``use_for_batch_api``).
    :param behavior: provider -> its behavior, if it differs from the default.
    :param max_body_mb: larger requests are refused. The default is the gateway's own.
    :param version: the version of the gateway that it answers like: ``1.4``, ``1.5`` or ``2``. The first two rest on recordings of 1.4.19
        and 1.5.16, the last one only on the source of 2.2.6.
    """

    def __init__(
        self,
        batch_seconds: float = 2.0,
        state: str | Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        virtual_keys: Iterable[str | VirtualKey] | None = None,
        enforce_auth: bool = False,
        keys: Mapping[str, str] | None = None,
        max_body_mb: int = 100,
        behavior: Mapping[str, ProviderBehavior] | None = None,
        version: str = "1.4",
    ) -> None:
        self._version = version_of(version)
        self.batch_seconds = batch_seconds
        self._state = state
        self._host = host
        self._port = port
        self._keys = {**DEFAULT_KEYS, **(keys or {})}
        if wrong := set(self._keys.values()) - set(KEYS):
            raise ValueError(f"keys are {' or '.join(KEYS)}, not {wrong.pop()!r}")
        check_names("a provider", self._keys, CONFIGURED)
        self._max_body_bytes = max_body_mb << 20
        self._governance = Governance(virtual_keys, enforced=enforce_auth, version=self._version)
        self._behaviors = Behaviors(behavior)
        self._faults = FaultPlan()
        self._recorder = Recorder()
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._gateway: Gateway | None = None
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start serving; returns when connections are accepted."""
        started = threading.Event()
        server, listening = self._build(verbose=False, on_start=started.set)
        thread = threading.Thread(target=server.run, args=([listening],), name="bifrost-local-gateway", daemon=True)
        thread.start()
        while not started.wait(0.05):
            if not thread.is_alive():
                raise RuntimeError("the local gateway could not be started")
        self._server, self._thread = server, thread
        return self

    def run(self, on_start: Callable[[str], None], *, verbose: bool = False) -> None:
        """Serve in the foreground until SIGTERM or SIGINT.

        :param on_start: called with the URL when connections are accepted.
        """
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn raises again what it has caught
        try:
            server, listening = self._build(verbose=verbose, on_start=lambda: on_start(self.url))
            server.run([listening])
        except KeyboardInterrupt:
            return
        finally:
            self._close()

    def stop(self) -> None:
        """Stop serving, within a second. A temporary state is removed."""
        self._halt()
        self._close()

    def restart(self, down_seconds: float = 0) -> None:
        """Stop, wait ``down_seconds``, and start again on the same port and state."""
        self._halt()
        time.sleep(down_seconds)
        self.start()

    def _build(self, *, verbose: bool, on_start: Callable[[], None]) -> tuple[Server, socket.socket]:
        listening = listen(self._host, self._port)
        self._port = listening.getsockname()[1]
        if self._gateway is not None:
            self._gateway.store.close()
        self._gateway = Gateway(Store(self._state_path()), self.batch_seconds, self._behaviors, self._version)
        app = App(
            self._gateway,
            self._governance,
            self._faults,
            self._recorder,
            self._keys,
            self._max_body_bytes,
            self._host,
        )
        return Server(app, verbose=verbose, on_start=on_start), listening

    def _state_path(self) -> Path:
        if self._state is not None:
            return Path(self._state)
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="bifrost-local-")
        return Path(self._temporary.name) / "state.sqlite"

    def _halt(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.halt()
            self._thread.join()
            self._server = self._thread = None

    def _close(self) -> None:
        if self._gateway is not None:
            self._gateway.store.close()
            self._gateway = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    @property
    def _running(self) -> Gateway:
        if self._gateway is None:
            raise RuntimeError("the local gateway is not running")
        return self._gateway

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests so far, oldest first, without control calls."""
        return self._recorder.all()

    @property
    def batches(self) -> list[dict[str, Any]]:
        """Every batch, oldest first: its wire fields, ``provider``, ``rows`` and ``idempotency_key``."""
        return self._running.by_hand.describe()

    @property
    def misuses(self) -> list[str]:
        """Injected provider answers that a call has met and that are not faults. The pytest fixture fails the test for them."""
        return self._faults.misuses()

    def clear_requests(self) -> None:
        """Forget the requests so far."""
        self._recorder.clear()

    def reset(self) -> None:
        """Forget files, batches, faults, misuses, behaviors and requests: a clean start for the next test of a shared gateway."""
        self._running.store.clear()
        self._behaviors.restore()
        self._faults.clear()
        self._faults.forget_misuses()
        self._recorder.clear()

    def connection_json(self, token: str | None = None, **extra: Any) -> str:
        """The JSON form of an Airflow connection to this gateway, for an ``AIRFLOW_CONN_...`` variable."""
        connection: dict[str, Any] = {"conn_type": "bifrost", "host": self._host, "schema": "http", "port": self._port}
        if token is not None:
            connection["password"] = token
        if extra:
            connection["extra"] = extra
        return json.dumps(connection)

    def add_batch(
        self,
        provider: str = "openai",
        status: str | None = None,
        batch_id: str | None = None,
        rows: int | list[dict[str, Any]] = 1,
        counts: dict[str, int] | None = None,
        **fields: Any,
    ) -> str:
        """Add a batch without an API call.

        :param provider: ``openai``, ``azure``, ``anthropic``, ``gemini``, ``bedrock``, or from version 1.5 on ``vertex``.
        :param status: a status in the provider's or the gateway's words, in which the batch stays; None: it runs on the clock.
        :param batch_id: its ID; None: a new one in the provider's form.
        :param rows: request lines, or how many rows to echo.
        :param counts: ``request_counts`` to show, whatever the rows say: ``total``, ``completed``, ``failed``,
            ``succeeded``, ``expired``, ``canceled``, ``pending``.
        :param fields: other wire fields to show. Gemini also takes ``dest=False``: native results are then the
            gateway's one invented row.
        :return: the ID as the openai routes show it.
        """
        return self._running.by_hand.add_batch(provider, status, batch_id, rows, counts, **fields)

    def set_batch(self, batch_id: str, **fields: Any) -> None:
        """Override members of a batch as every answer shows it.

        A status keeps the batch in it; status None lets it run. ``id`` makes the gateway answer about another batch than
        the requested one. None removes any other member.

        :raises ValueError: if the gateway's batches have no such member.
        :raises LookupError: if there is no such batch.
        """
        self._running.by_hand.set_batch(batch_id, **fields)

    def add_file(
        self, content: bytes, *, provider: str = "openai", file_id: str | None = None, filename: str = "in.jsonl"
    ) -> str:
        """Add a file without an API call. Returns its ID as the openai routes show it."""
        model = provider_of(provider)
        file = self._running.files.add(model, [content], filename=filename, file_id=file_id)
        return model.public_file_id(file.id, native=False)

    def inject(self, fault: Fault) -> None:
        """Inject a fault into the calls that it matches."""
        self._faults.add(fault)

    def behave(self, provider: str, behavior: ProviderBehavior) -> None:
        """Set the behavior of a provider until ``reset()``."""
        self._behaviors.set(provider, behavior)

    def revoke(self, token: str) -> None:
        """Refuse one of ``virtual_keys`` from now on, as after a rotation of the token."""
        self._governance.revoke(token)

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._faults.clear()
