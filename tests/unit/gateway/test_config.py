"""A connection that cannot work is refused before anything is sent, and the message names the field."""

from __future__ import annotations

import dataclasses
import os
import shutil
import ssl

import certifi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import GatewayConfig

URL = "https://gw.example"


@pytest.mark.parametrize(
    ("base_url", "field"),
    [
        ("gw.example", "schema"),
        ("ftp://gw.example", "schema"),
        ("", "host"),
        ("https://", "host"),
        ("https://:8080", "host"),
        ("https://a b", "host"),
        ("https://gw\n.example", "host"),
        ("https://[::1", "host"),
        ("https://user:secret@gw.example", "host"),
        ("https://gw.example?x=1", "host"),
        ("https://gw.example/#", "host"),
        ("https://gw.example:http", "port"),
        ("https://gw.example:70000", "port"),
        (None, "host"),
    ],
)
def test_a_base_url_that_cannot_work_names_its_field(base_url, field):
    with pytest.raises(ValueError, match=f"^{field}: ") as caught:
        GatewayConfig(base_url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("path_prefix", "openai"),
        ("path_prefix", "/openai/"),
        ("path_prefix", "/a?b"),
        ("timeout", 0),
        ("timeout", float("nan")),
        ("timeout", "60"),
        ("connect_timeout", -1),
        ("max_connections", 0),
        ("max_connections", 1.5),
        ("max_connections", "8"),
    ],
)
def test_a_value_that_cannot_work_names_its_field(name, value):
    with pytest.raises(ValueError, match=f"^{name}: "):
        GatewayConfig(URL, **{name: value})


@pytest.mark.parametrize("token", ["a b", "a\r\nx-evil: 1", "schlüssel", ""])
def test_a_token_that_is_no_header_is_refused_without_being_shown(token):
    with pytest.raises(ValueError, match=r"^password: ") as caught:
        GatewayConfig(URL, token=token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    "base_url", ["http://localhost:8080", "https://gw.example/a/b/", "https://[::1]:8443", "https://bücher.example"]
)
def test_a_url_with_or_without_port_and_path_is_accepted(base_url):
    assert GatewayConfig(base_url).root == base_url.rstrip("/")


def test_no_prefix_is_a_prefix():
    assert GatewayConfig(URL, path_prefix="").path_prefix == ""


def test_a_config_is_frozen_and_does_not_show_the_token():
    config = GatewayConfig(URL, token="sk-bf-secret")
    assert "secret" not in repr(config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.token = None


def test_verification_is_on_by_default():
    context = GatewayConfig(URL).tls()
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_the_public_authorities_are_read_once_for_all_clients():
    assert GatewayConfig(URL).tls() is GatewayConfig("https://other.example").tls()


def test_authorities_are_read_again_when_their_file_has_changed(tmp_path, monkeypatch):
    bundle = tmp_path / "ca.pem"
    shutil.copy(certifi.where(), bundle)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    before = GatewayConfig(URL).tls()
    assert GatewayConfig(URL, verify=str(bundle)).tls() is before
    os.utime(bundle, (1, 1))
    assert GatewayConfig(URL).tls() is not before


def test_a_missing_ca_bundle_of_the_environment_is_named(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/no-such-bundle")
    with pytest.raises(ValueError, match=r"^verify: '/etc/no-such-bundle' cannot be read"):
        GatewayConfig(URL).tls()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_bundle_that_cannot_be_read_names_the_field(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"^verify: "):
        GatewayClient(GatewayConfig(URL, verify=str(path)))


def test_a_ca_bundle_is_checked_against_host_names_too():
    context = GatewayConfig(URL, verify=ssl.get_default_verify_paths().cafile or "").tls()
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


@settings(deadline=None)
@given(st.text(max_size=30), st.sampled_from(["", "http://", "https://"]))
def test_any_base_url_is_accepted_or_a_value_error(text, schema):
    try:
        GatewayConfig(schema + text)
    except ValueError:
        return


@pytest.mark.parametrize("tail", ["/openai", "/openai/v1", "/v1", "/openai/v1/"])
def test_a_url_copied_from_an_openai_client_says_what_to_remove(tail):
    with pytest.raises(ValueError, match=r"host: remove '/(openai|v1|openai/v1)' from the URL"):
        GatewayConfig(f"https://gateway.example.com{tail}")


def test_a_path_before_the_gateways_routes_is_kept():
    assert GatewayConfig("https://example.com/bifrost").root == "https://example.com/bifrost"
