"""Certificates are checked unless someone says otherwise."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.clients import BATCH, RawServer, http_answer

from airflow_bifrost.exceptions import BifrostUnavailable


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """The path of a self-signed certificate for 127.0.0.1, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + signed.public_bytes(serialization.Encoding.PEM))
    return str(path)


@pytest.fixture
def server(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with RawServer(http_answer(BATCH), wrap=lambda raw: context.wrap_socket(raw, server_side=True)) as server:
        yield server


def test_a_self_signed_certificate_is_refused_and_nothing_is_sent(connect, server):
    with pytest.raises(BifrostUnavailable, match="verify") as caught:
        connect(base_url=f"https://127.0.0.1:{server.port}").get_batch("batch_1")
    assert server.received == []
    assert caught.value.transient is False


def test_a_certificate_of_the_given_ca_is_accepted(connect, server, certificate):
    assert connect(base_url=f"https://127.0.0.1:{server.port}", verify=certificate).get_batch("batch_1").id == "batch_1"


def test_any_certificate_is_accepted_where_verify_is_switched_off(connect, server):
    assert connect(base_url=f"https://127.0.0.1:{server.port}", verify=False).get_batch("batch_1").id == "batch_1"


def test_https_to_a_plain_http_server_is_permanent(connect):
    def greet(raw: socket.socket) -> socket.socket:
        raw.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        return raw

    with RawServer(b"", wrap=greet) as server, pytest.raises(BifrostUnavailable) as caught:
        connect(base_url=f"https://127.0.0.1:{server.port}").get_batch("batch_1")
    assert caught.value.transient is False


def test_a_refused_connection_is_transient(connect):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(BifrostUnavailable, match="no answer") as caught:
            connect(base_url=f"http://127.0.0.1:{port}").get_batch("batch_1")
    assert caught.value.transient is True


@pytest.mark.parametrize(("code", "transient"), [(socket.EAI_NONAME, False), (socket.EAI_AGAIN, True)])
def test_an_unknown_host_is_permanent_and_a_busy_name_server_transient(connect, monkeypatch, code, transient):
    def getaddrinfo(*args, **kwargs):
        raise socket.gaierror(code, "no name")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(BifrostUnavailable) as caught:
        connect(base_url="http://gw.invalid").get_batch("batch_1")
    assert caught.value.transient is transient


def test_a_timeout_is_transient(connect):
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow")

    with pytest.raises(BifrostUnavailable) as caught:
        connect(handler).get_batch("batch_1")
    assert caught.value.transient is True
