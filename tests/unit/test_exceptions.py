"""The exception tree."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from airflow_bifrost import exceptions
from airflow_bifrost._compat import AirflowException, AirflowFailException
from airflow_bifrost.exceptions import (
    BatchFailed,
    BifrostError,
    BifrostGatewayError,
    BifrostProtocolError,
    BifrostRateLimited,
    BifrostUnavailable,
)

OWN = {
    name: kind
    for name, kind in vars(exceptions).items()
    if inspect.isclass(kind) and kind.__module__ == exceptions.__name__
}
OF_THE_GATEWAY = [kind for kind in OWN.values() if issubclass(kind, BifrostGatewayError)]


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = re.findall(r"(?:├──|└──) (\w+)", exceptions.__doc__)
    assert sorted(drawn) == sorted(OWN)


@pytest.mark.parametrize("kind", OWN.values(), ids=OWN)
def test_every_error_is_an_airflow_exception_with_its_message(kind):
    assert issubclass(kind, BifrostError)
    assert issubclass(kind, AirflowException)
    assert str(kind("what happened")) == "what happened"


@pytest.mark.parametrize(
    ("name", "transient"),
    [
        ("BifrostUnavailable", True),
        ("BifrostRateLimited", True),
        ("BifrostBudgetExceeded", True),
        ("BifrostAuthError", False),
        ("BatchNotFound", False),
        ("BifrostRequestError", False),
        ("BifrostProtocolError", False),
    ],
)
def test_each_class_has_a_default_for_transient(name, transient):
    kind = OWN[name]
    assert kind("m").transient is transient
    assert kind("m", transient=not transient).transient is not transient
    assert kind.transient is transient


@pytest.mark.parametrize("kind", OF_THE_GATEWAY)
def test_an_error_of_the_gateway_survives_a_pickle(kind):
    error = kind("m", status_code=429, error_type="t", error_code="c", retry_after=5.0, transient=True)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == "m"
    assert vars(copy) == vars(error)


def test_unknown_attributes_are_none():
    error = BifrostProtocolError("m")
    assert (error.status_code, error.error_type, error.error_code, error.retry_after) == (None, None, None, None)


def test_a_batch_that_failed_is_not_retried_and_carries_its_summaries():
    error = BatchFailed("m", summaries=[{"batch_id": "b"}])
    assert isinstance(error, AirflowFailException)
    assert pickle.loads(pickle.dumps(error)).summaries == [{"batch_id": "b"}]
    assert BatchFailed("m").summaries == []


def test_faults_of_the_gateway_leave_the_retries_to_airflow():
    for kind in (BifrostUnavailable, BifrostRateLimited):
        assert not issubclass(kind, AirflowFailException)


@pytest.mark.parametrize("kind", [kind for kind in OWN.values() if kind is not BatchFailed])
def test_an_error_has_what_happened_and_what_to_do_apart_and_keeps_them_in_a_pickle(kind):
    error = pickle.loads(pickle.dumps(kind("No. Do it.", problem="No.", advice="Do it.")))
    assert (str(error), error.problem, error.advice) == ("No. Do it.", "No.", "Do it.")
    assert (kind("m").problem, kind("m").advice) == ("m", None)
