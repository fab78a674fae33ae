"""The error that the gateway typically answers with a status, for a fault without a body."""

from __future__ import annotations

from airflow_bifrost.testing.errors import GatewayError
from airflow_bifrost.testing.governance import refusal
from airflow_bifrost.testing.provider_answers import ProviderAnswer, failed, passed_on
from airflow_bifrost.testing.providers import PROVIDERS
from airflow_bifrost.testing.versions import V1_4, Version

_PAGE = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr><center>cloudflare</center></body></html>"
_OF_GOVERNANCE = {401: "virtual_key_required", 402: "budget_exceeded", 403: "virtual_key_blocked"}
_OF_A_PROXY = {502: "502 Bad Gateway", 503: "503 Service Temporarily Unavailable"}
_OF_THE_PROVIDER = {
    400: {"message": "Invalid batch id"},
    404: {"message": "No batch found."},
    409: {"message": "Conflict"},
    429: {"message": "Rate limit reached for requests", "type": "requests", "code": "rate_limit_exceeded"},
    500: {
        "message": "The server had an error while processing your request. Sorry about that!",
        "type": "server_error",
    },
    529: {"message": "Overloaded", "type": "overloaded_error"},
}


def typical_error(
    status: int, provider: str = "openai", request_type: str = "", version: Version = V1_4
) -> GatewayError:
    """A refusal of the governance, a timeout, or what the gateway makes of an error of the provider or a proxy."""
    if status in _OF_GOVERNANCE:
        return refusal(_OF_GOVERNANCE[status], version=version)
    if status == 504:
        return failed("openai", "timeout", version)
    api = PROVIDERS.get(provider, PROVIDERS["openai"])
    if status in _OF_A_PROXY:
        answer = ProviderAnswer(status, {"content-type": "text/html"}, _PAGE.format(_OF_A_PROXY[status]))
    elif status in _OF_THE_PROVIDER:
        answer = api.refusal(status, **_OF_THE_PROVIDER[status]).answer
    else:
        answer = ProviderAnswer(status)
    return passed_on(api.name, request_type, answer, version)
