"""Keys are struck out; ids and prose stay."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_bifrost.gateway.redact import MAX_QUOTE, quote

KEYS = {
    "OpenAI": "sk-proj-Ab12Cd34Ef56Gh78Ij90",
    "OpenAI, masked": "sk-proj-********************wxyz",
    "OpenAI, old": "sk-abcdefghijklmnopqrstuvwx",
    "Anthropic": "sk-ant-api03-abc_DEF-123456",
    "virtual key": "sk-bf-5e1f2a3b-0000",
    "virtual key, upper case": "SK-BF-5E1F2A3B",
    "Google": "AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
    "Google OAuth": "ya29.a0AfH6SMBx-yz_0123",
    "AWS": "AKIAIOSFODNN7EXAMPLE",
    "AWS, temporary": "ASIAIOSFODNN7EXAMPLE",
    "Groq": "gsk_abcdefgh12345678",
    "Hugging Face": "hf_abcdefghijklmnop",
    "xAI": "xai-abcdefgh12345678",
    "JWT": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3",
}


@pytest.mark.parametrize(
    "frame", ["{}", "Incorrect API key provided: {}.", "(key={})", '"{}"', "a\n{}\tb", "key:{},", "x {}"]
)
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_key_is_struck_out_anywhere(key, frame):
    shown = quote(frame.format(key))
    assert key not in shown
    assert key[6:-2] not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("api-key: 0123456789abcdef0123456789abcdef", "0123456789abcdef"),
        ("Ocp-Apim-Subscription-Key: 0123abcd", "0123abcd"),
        ('{"api_key": "plainsecret"}', "plainsecret"),
        ("{'apikey':'plainsecret'}", "plainsecret"),
        ("Incorrect API key provided: provider-key. You can find yours", "provider-key"),
        ("Invalid API key 'plainsecret'", "plainsecret"),
        ("Authorization: Bearer plainsecret", "plainsecret"),
        ("authorization=Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("sent Bearer plainsecret to", "plainsecret"),
        ("x-goog-api-key: plainsecret", "plainsecret"),
        ("GET https://generativelanguage.example/v1beta/batches?key=plainsecret&alt=json", "plainsecret"),
        ("https://s3.example/o?X-Amz-Credential=abc&X-Amz-Signature=deadbeef", "deadbeef"),
        ("https://blob.example/o?sv=1&sig=deadbeef%3D", "deadbeef"),
        ("aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPx", "wJalr"),
        ("SecretAccessKey: wJalrXUtnFEMI/K7MDENG/bPx", "wJalr"),
        ("x-amz-security-token=FwoGZXIvYXdzEBYa", "FwoG"),
        ("password: hunter2", "hunter2"),
        ("token: 0123456789abcdef01", "0123456789abcdef"),
        ("https://user:plainsecret@gw.example/path", "plainsecret"),
        ("-----BEGIN RSA PRIVATE KEY----- MIIEow IBAAKCAQEA", "MIIEow"),
    ],
)
def test_what_is_called_a_key_is_struck_out_whatever_it_looks_like(text, secret):
    assert secret not in quote(text)


@pytest.mark.parametrize(
    "text",
    [
        "no keys found for provider: openai",
        "no batch-enabled keys found for provider: openai and model: gpt-4o",
        "no config found for batch APIs. Please enable 'Use for Batch APIs' on at least one key for provider: openai",
        "Rate limit check failed: rate limit violated for VK: token limit exceeded (9/3, resets every 1h)",
        "virtual key is required. Provide a virtual key via the x-bf-vk header.",
        "Provider 'anthropic' is not allowed for this virtual key",
        "Access denied due to invalid subscription key or wrong API endpoint.",
        "Budget exceeded: VK budget exceeded: 5.0000 >= 1.0000 dollars",
        "No batch found with id 'batch_67f0a1b2c3d48190a1b2c3d4e5f60718'.",
        "Batch msgbatch_013Zva2CMHLNnXjNJJKqJ2EF not found",
        "Duplicate key: batch_abc123def456789012",
        "job YXJuOmF3czpiZWRyb2NrOnVzLWVhc3QtMToxMjM0NTY3ODkwMTI6bW9kZWwtaW52b2NhdGlvbi1qb2IvYWJjMTIzZGVm0==",
        "cursor eyJ2IjoxLCJpIjowLCJjIjoiYmF0Y2hfYjIifQ==",
        "The value of max_tokens is too large: 4096; max_tokens=4096",
        "basic authentication failed, the bearer token is missing",
        "Unexpected token: '}' at line 3, missing key: custom_id",
        "this is risk-adjusted, task-oriented and desk-bound",
        "Invalid 'messages[0].content': expected a string, got null (key-value pairs, key_not_found)",
    ],
)
def test_ids_and_prose_stay_readable(text):
    assert quote(text) == text


@pytest.mark.parametrize("token", ["correct horse", "0123456789", "batch-gateway-token"])
def test_the_connections_own_token_is_struck_out_whatever_it_looks_like(token):
    assert token not in quote(f"the token {token} is unknown", token=token)


def test_a_quotation_is_one_short_line_without_control_characters():
    shown = quote("a\r\n\x1b[31mb\0" + "\u202ec " + "x" * 10_000)
    assert shown.startswith("a [31mb c x")
    assert len(shown) == MAX_QUOTE + 1
    assert shown.endswith("…")


@settings(deadline=None)
@given(st.text())
def test_any_text_can_be_quoted(text):
    shown = quote(text)
    assert len(shown) <= MAX_QUOTE + 1
    assert "\n" not in shown


@pytest.mark.parametrize(
    "text", ["key:" * 2_000_000, "bearer " * 1_000_000, "sk-" * 2_000_000, "://a" * 2_000_000, " " * 8_000_000]
)
def test_what_is_quoted_of_megabytes_depends_on_their_beginning_only(text):
    assert quote(text) == quote(text[: 4 * MAX_QUOTE])
