"""Rows become request lines: one line of a provider's input for each row, with the task's defaults for what the row does not set."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec

from airflow_bifrost import providers
from airflow_bifrost.providers.forms import LineForm, canonical_endpoint
from airflow_bifrost.submission.bad_rows import BadRow, LastRow, input_error, shown
from airflow_bifrost.submission.ids import UniqueIds, automatic_id
from airflow_bifrost.submission.json_values import InexactError, JsonObject, encode, plain_members
from airflow_bifrost.submission.reading import IdentifiedRow, Unreadable

MEMBERS_SHOWN = 20  # names of members in a message
_SYSTEM_ROLES = {"system", "developer"}


class RequestLines:
    """Makes request lines for one endpoint of one provider.

    :param model: for each body that sets none.
    :param system: system prompt for each body that sets none.
    :param defaults: members for each body that does not set them.
    :param bare_bodies: accept bodies without the member that holds the prompt, such as ``messages``.
    :raises BatchInputError: the body has no place for a system prompt, or what every request gets cannot be JSON.
    """

    def __init__(
        self,
        provider: str,
        endpoint: str,
        model: str | None,
        system: str | None,
        defaults: Mapping[str, Any],
        *,
        bare_bodies: bool = True,
    ) -> None:
        self.ids_from_numbers = 0  # rows whose ID was a whole number
        self._provider = providers.get(provider)
        self._endpoint = endpoint
        self._counts_inputs = canonical_endpoint(endpoint) == "/v1/embeddings"
        self._form = self._provider.lines
        self._prompts = self._provider.prompt_form(endpoint)
        self._content = () if bare_bodies or self._prompts is None else self._prompts.content
        self._ids = UniqueIds(self._provider.custom_ids)
        self._claimed = self._ids.claimed  # looked up for every row
        self._system: JsonObject | None = None
        own: JsonObject = {"model": model} if model and self._form.names_model else {}
        if system is not None:
            own |= self._place_system(system)
        self._fill = self._checked({**own, **defaults, **own})
        common = LineForm()  # accepted for every provider, in addition to its own
        self._id_names = {common.id, self._form.id}
        self._body_names = {common.body, self._form.body}
        self._line_names = self._id_names | self._body_names  # a request body has none of these
        self._known_names = {*self._line_names, "method", "url"}

    def line_of(self, place: int, row: Any) -> tuple[bytes, str | None, int]:
        """The line of a row; the model that its body names (None: the create call names it); and how many rows it counts for.

        :param place: of the row in the whole input, from 1.
        :raises BadRow: the row cannot be sent.
        """
        try:
            given = None
            if type(row) is IdentifiedRow:
                given, row = row
            if isinstance(row, str):
                before, between, after, model = self._template
                text = encode(row if type(row) is str else str.__str__(row))
                return b"%b%b%b%b%b" % (before, self._id_of_prompt(given, place), between, text, after), model, 1
            custom_id, body = self._read(row)
            if given is not None:
                if custom_id is not None:
                    raise BadRow("names its own ID, but `id_column` names it too: use one of the two")
                custom_id = given
            if custom_id is None:
                self._ids.take_automatic(place)
                custom_id = automatic_id(place)
            else:
                self._ids.take(custom_id, place)
            body = self._complete(plain_members(body))
            return self._written(custom_id, body), self._model_of(body), self._weight_of(body)
        except RecursionError:
            raise BadRow("is nested too deeply") from None
        except InexactError as error:
            raise BadRow(str(error)) from None

    def _id_of_prompt(self, given: str | None, place: int) -> bytes:
        if given is not None:
            self._ids.take(given, place)
            return encode(given)
        if place in self._claimed:
            self._ids.take_automatic(place)
        return b'"row-%09d"' % place

    @cached_property
    def _template(self) -> tuple[bytes, bytes, bytes, str | None]:
        """The line of a prompt in three pieces (before the ID, between ID and prompt, after the prompt), and the model."""
        if self._prompts is None:
            known = ", ".join(endpoint for endpoint in self._provider.prompts if endpoint)
            raise LastRow(
                f"is a prompt, but the form of a request to the endpoint {shown(self._endpoint)} is unknown:"
                f" give request bodies, or one of the endpoints {known}"
            )
        gap = msgspec.Raw(b"\0")  # JSON never contains this byte
        body = self._complete(self._prompts.body(gap))
        before, between, after = self._written(gap, body).split(b"\0")
        return before, between, after, self._model_of(body)

    def _place_system(self, system: str) -> JsonObject:
        """The members of a body that hold the system prompt."""
        if self._prompts is not None and self._prompts.system is not None:
            return self._prompts.system(system)
        if self._prompts is not None and self._prompts.system_is_message:
            self._system = self._checked({"role": "system", "content": system})
            return {}
        raise input_error(
            f"A request to {self._endpoint} of {self._provider.name} has no member for `system_prompt`.",
            "Put it into the bodies, or into `request_params` under the name that the model gives it.",
        )

    def _checked(self, members: JsonObject) -> JsonObject:
        """Members that the task gives to every request."""
        try:
            members = plain_members(members)
            encode(members)
        except InexactError as error:
            problem = str(error)
        except RecursionError:
            problem = "is nested too deeply"
        else:
            return members
        raise input_error(
            f"What every request is given (`model`, `system_prompt`, `request_params`, `output_type`) {problem}.",
            "Fix the task's arguments, and run the task again.",
        )

    def _read(self, row: Any) -> tuple[str | None, JsonObject]:
        """The ID (None: the row has none) and the body of a row that is not a prompt."""
        if not isinstance(row, dict):
            raise BadRow(_wrong_shape(row))
        form = self._form
        if self._line_names.isdisjoint(row):
            return self._one_id([], row), row
        if unknown := row.keys() - self._known_names:
            names = ", ".join(sorted(map(str, unknown)))
            raise BadRow(
                f"has members that a batch line does not have: {shown(names)}. It has {form.id}, {form.body}, method and url"
            )
        bodies = [row[name] for name in self._body_names if name in row]
        if len(bodies) != 1 or not isinstance(bodies[0], dict):
            raise BadRow(f"is a batch line without exactly one `{form.body}` that is an object")
        if row.get("method", "POST") != "POST":
            raise BadRow(f"has the method {shown(row['method'])}: a batch takes only POST")
        url = row.get("url", self._endpoint)
        if not isinstance(url, str) or canonical_endpoint(url) != canonical_endpoint(self._endpoint):
            raise BadRow(f"has the url {shown(url)}, but the batch is for {self._endpoint}")
        ids = [row[name] for name in self._id_names if name in row]
        return self._one_id(ids, bodies[0]), bodies[0]

    def _one_id(self, ids: list[Any], body: JsonObject) -> str | None:
        """The only one of the IDs that a row sets; None if it sets none."""
        label = self._form.label
        if label and label in (labels := self._labels_of(body)):
            ids = [*ids, labels[label]]
        if ids and isinstance(ids[0], int) and not isinstance(ids[0], bool):
            self.ids_from_numbers += 1
            ids[0] = str(int(ids[0]))
        if len(ids) > 1 or (ids and not isinstance(ids[0], str)):
            raise BadRow(f"is a batch line whose `{label or self._form.id}` is neither one string nor one whole number")
        return str.__str__(ids[0]) if ids else None

    @staticmethod
    def _labels_of(body: JsonObject) -> JsonObject:
        labels = body.get("labels", {})
        if not isinstance(labels, dict):
            raise BadRow(f"has `labels` that are not an object: {shown(labels)}")
        return labels

    def _complete(self, body: JsonObject) -> JsonObject:
        """The body with the task's defaults for what it does not set."""
        body = {**self._fill, **body}
        if self._system is not None and isinstance(messages := body.get("messages"), list):
            roles = {str(message.get("role")) for message in messages if isinstance(message, dict)}
            if not roles & _SYSTEM_ROLES:
                body["messages"] = [self._system, *messages]
        if self._form.names_model and not (isinstance(body.get("model"), str) and body["model"]):
            raise BadRow("names no model: give `model`")
        for name, advice in self._form.required.items():
            if name not in body:
                raise BadRow(advice)
        if self._content and not any(body.get(name) for name in self._content):
            raise BadRow(self._bare(body))
        return body

    def _bare(self, body: JsonObject) -> str:
        """What is wrong with a body that has nothing to ask."""
        wanted = " or ".join(f"`{name}`" for name in self._content)
        if empty := [name for name in self._content if name in body]:
            return f"is a request body whose `{empty[0]}` is empty"
        own = [name for name in body if name not in self._fill]
        has = f"it has {', '.join(map(shown, own[:MEMBERS_SHOWN]))}" if own else "it is empty"
        return (
            f"is a request body without {wanted}, which {self._endpoint} of {self._provider.name} needs: {has}. For the row of a table,"
            ' set `prompt` ("Classify: {column}"); to send the body as it is, set on_bare_body="send"'
        )

    def _model_of(self, body: JsonObject) -> str | None:
        return body["model"] if self._form.names_model else None

    def _weight_of(self, body: JsonObject) -> int:
        """A row of embeddings counts as many as it has inputs: texts, or lists of tokens."""
        if not self._counts_inputs:
            return 1
        given = body.get("input")
        return len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1

    def _written(self, custom_id: Any, body: JsonObject) -> bytes:
        form = self._form
        if form.label is not None:  # first, because the template of a prompt has its ID before the prompt
            labels = {"labels": {**self._labels_of(body), form.label: custom_id}}
            return encode({form.body: labels | body | labels}) + b"\n"
        envelope = {"method": "POST", "url": self._endpoint} if form.envelope else {}
        return encode({form.id: custom_id, **envelope, form.body: body}) + b"\n"


def _wrong_shape(row: Any) -> str:
    if isinstance(row, Unreadable):
        return row.reason
    advice = ""
    if isinstance(row, bytes | bytearray):
        advice = "; decode it"
    elif isinstance(row, list | tuple):
        advice = '; for a row of columns set `prompt`, with the numbers of the columns: prompt="Classify: {0}"'
    return f"is {type(row).__name__}: a row is a prompt (text), a request body or a whole batch line (dicts){advice}"
