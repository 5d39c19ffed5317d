"""Pydantic's errors as sentences that a person who wrote a file understands."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from wsmon.config.problems import Finding, Path, did_you_mean, show
from wsmon.redact import redact
from wsmon.secrets import is_reference

Model = TypeVar("Model", bound=BaseModel)

_WRONG_TYPE = {
    "string_type": "is not text",
    "bool_type": "is neither true nor false",
    "bool_parsing": "is neither true nor false",
    "int_type": "is not a whole number",
    "int_parsing": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_type": "is not a number",
    "float_parsing": "is not a number",
    "finite_number": "is not a number one can count with",
    "list_type": "stands where a list belongs",
    "tuple_type": "stands where a list belongs",
    "set_type": "stands where a list belongs",
    "frozen_set_type": "stands where a list belongs",
    "dict_type": "stands where a mapping (key: value) belongs",
    "mapping_type": "stands where a mapping (key: value) belongs",
    "model_type": "stands where a mapping (key: value) belongs",
    "model_attributes_type": "stands where a mapping (key: value) belongs",
}
_PLAIN_TYPES = {"string_type", "bool_type", "int_type", "float_type"}
_LIMITS = {
    "greater_than_equal": ("must be at least", "ge"),
    "greater_than": ("must be more than", "gt"),
    "less_than_equal": ("must be at most", "le"),
    "less_than": ("must be less than", "lt"),
}


def check(
    model: type[Model],
    data: Mapping[str, Any],
    *,
    shown: Mapping[str, Any] | None = None,
    secrets: Collection[str] = (),
    known: Iterable[str] = (),
) -> tuple[Model | None, list[Finding]]:
    """Validate ``data`` strictly (``"5"`` is no number, ``true`` no 1); every mistake is found.

    ``shown`` is the same data as it may appear in messages, with references instead of ``secrets``.
    ``known`` are further keys that "did you mean" may suggest.
    """
    shown = data if shown is None else shown
    unknown = [key for key in data if key not in _keys(model)]
    findings = [Finding((key,), unknown_key(key, {*_keys(model), *known})) for key in unknown]
    findings += [Finding((key,), "has no value") for key in data if data[key] is None and key not in unknown]
    flawed = {finding.path[0] for finding in findings}
    rest = {key: value for key, value in data.items() if key not in flawed}
    value, details = _validate(model, rest, shown)
    details = [one for one in details if not (one["type"] == "missing" and one["loc"][-1] in flawed)]
    findings += _findings(model, details, shown, secrets)
    return (value if not findings else None), findings


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The sentence for a key that does not belong."""
    return f"unknown key{did_you_mean(key, known)}"


def wrong_mapping(value: Any) -> str:
    """The sentence for something else where a mapping belongs."""
    return f"{show(value)} {_WRONG_TYPE['dict_type']}"


def _validate(
    model: type[Model], data: Mapping[str, Any], shown: Mapping[str, Any]
) -> tuple[Model | None, list[ErrorDetails]]:
    """The value, and what is wrong. Pydantic's strict mode is too strict as a whole (a validator that makes a
    list of one word cannot fill a tuple with it); of its errors only those about plain values count. What a
    reference leads to is always text, so there ``"5"`` may stand for a number.
    """
    value, details = None, []
    try:
        value = model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    told = {one["loc"] for one in details}
    try:
        model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        strict = error.errors(include_url=False)
        plain = [one for one in strict if one["type"] in _PLAIN_TYPES and one["loc"] not in told]
        details += [one for one in plain if not _is_reference(_walk(one, shown)[1])]
    return value, details


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and is_reference(value)


def _keys_at(model: type[BaseModel], path: Path) -> set[str]:
    """The keys of the model inside ``model`` that a path of plain field names leads to, as far as it is clear."""
    for part in path:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        found = fields[part].annotation if isinstance(part, str) and part in fields else None
        members = [one for one in (found, *get_args(found)) if isinstance(one, type) and issubclass(one, BaseModel)]
        if len(members) != 1:
            return set()
        model = members[0]
    return _keys(model)


def _keys(model: type[BaseModel]) -> set[str]:
    fields = model.model_fields.items()
    return {field.alias or name for name, field in fields}


def _findings(
    model: type[BaseModel], details: Iterable[ErrorDetails], shown: Mapping[str, Any], secrets: Collection[str]
) -> list[Finding]:
    """One finding for each place; the members of a union complain there together."""
    places: dict[Path, list[str]] = {}
    for detail in details:
        path, value = _walk(detail, shown)
        if detail["type"] == "extra_forbidden":
            message = unknown_key(str(path[-1]), _keys_at(model, path[:-1]))
        else:
            message = _sentence(detail, value, secrets)
        told = places.setdefault(path, [])
        if message not in told:
            told.append(message)
    return [Finding(path, "; or ".join(messages)) for path, messages in places.items()]


def _walk(detail: ErrorDetails, shown: Any) -> tuple[Path, Any]:
    """Where in the data the error is: pydantic also names union members and validators in ``loc``."""
    path: list[str | int] = []
    for index, part in enumerate(detail["loc"]):
        inside = (isinstance(shown, Mapping) and part in shown) or (
            isinstance(shown, list) and isinstance(part, int) and part < len(shown)
        )
        if inside:
            path.append(part)
            shown = shown[part]
        elif detail["type"] == "missing" and index == len(detail["loc"]) - 1:
            path.append(part)
            shown = None
    return tuple(path), shown


def _sentence(detail: ErrorDetails, value: Any, secrets: Collection[str]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if kind in _WRONG_TYPE:
        hint = ": put it in quotes" if kind == "string_type" and _plain(value) else ""
        return f"{show(value)} {_WRONG_TYPE[kind]}{hint}"
    if kind in _LIMITS:
        words, limit = _LIMITS[kind]
        return f"{show(value)} {words} {context[limit]}"
    if kind in {"literal_error", "enum"}:
        return f"{show(value)} is not one of {context['expected']}".replace("'", "")
    if kind == "value_error":
        return _own_words(str(context.get("error", detail["msg"])), value, secrets)
    return redact(f"{show(value)}: {detail['msg'][:1].lower()}{detail['msg'][1:]}", secrets)


def _own_words(message: str, value: Any, secrets: Collection[str]) -> str:
    """A validator's message; when it only says "is not ..." the value is put before it."""
    message = redact(message, secrets)
    plain = not isinstance(value, Mapping | list)
    return f"{show(value)} {message}" if plain and message.startswith(("is ", "must ", "has ")) else message


def _plain(value: Any) -> bool:
    return isinstance(value, bool | int | float)
