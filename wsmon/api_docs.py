"""The API's documentation, rendered here from the OpenAPI document: no script, nothing from elsewhere.

Swagger UI, which ninja brings, would need a looser Content-Security-Policy than ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

_DEPTH = 5

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter, or one value in a body or an answer; ``path`` is dotted ("services[].status")."""

    path: str
    type: str
    required: bool
    default: str
    description: SafeString


@dataclass(frozen=True, slots=True)
class Answer:
    """One status an operation may answer with."""

    status: int
    words: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    anchor: str
    method: str
    path: str
    summary: str
    description: SafeString
    scope: str
    permission: str
    parameters: list[Field]
    body: list[Field]
    answer: list[Field]
    call: str
    example: str
    answers: list[Answer]


def page(request: HttpRequest, document: Json) -> HttpResponse:
    """Render the document as a page of wsmon."""
    context = {
        "info": document["info"],
        "paragraphs": [marked(text) for text in document["info"]["description"].split("\n\n")],
        "operations": list(operations(document, request.build_absolute_uri("/").rstrip("/"))),
    }
    return render(request, "api/docs.html", context)


def operations(document: Json, origin: str = "") -> Iterator[Operation]:
    """Yield every operation of an OpenAPI document, in its order; ``origin`` stands in its example call."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield _operation(document, origin, path, method, operation)


def marked(text: str) -> SafeString:
    """Return a text, escaped, with what stands in backticks as code."""
    parts = text.split("`")
    return format_html_join(
        "", "{}", ((format_html("<code>{}</code>", part) if odd % 2 else part,) for odd, part in enumerate(parts))
    )


def _operation(document: Json, origin: str, path: str, method: str, operation: Json) -> Operation:
    body = _schema(operation.get("requestBody", {}))
    good = _schema(next((one for status, one in operation["responses"].items() if int(status) < 300), {}))
    return Operation(
        anchor=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=marked(operation.get("description", "")),
        scope=operation.get("x-scope") or "",
        permission=operation.get("x-permission") or "",
        parameters=[_parameter(document, one) for one in operation.get("parameters", [])],
        body=list(_fields(document, body)),
        answer=list(_fields(document, good)),
        call=_call(document, method.upper(), origin + path, operation, body),
        example=_example(document, good),
        answers=[Answer(int(status), one["description"]) for status, one in operation["responses"].items()],
    )


def _parameter(document: Json, parameter: Json) -> Field:
    schema = parameter["schema"]
    where = "" if parameter["in"] == "query" else f" (in the {parameter['in']})"
    return Field(
        path=parameter["name"],
        type=_type(document, schema) + where,
        required=parameter["required"],
        default=_default(schema),
        description=marked(parameter.get("description", "")),
    )


def _fields(document: Json, schema: Json, prefix: str = "", depth: int = 0) -> Iterator[Field]:
    schema, suffix = _inside(document, schema)
    if depth > _DEPTH:
        return
    for name, value in schema.get("properties", {}).items():
        path = f"{prefix}{suffix}.{name}" if prefix else name
        yield Field(
            path=path,
            type=_type(document, value),
            required=name in schema.get("required", []),
            default=_default(value),
            description=marked(value.get("description") or _resolve(document, value).get("description", "")),
        )
        yield from _fields(document, value, path, depth + 1)


def _inside(document: Json, schema: Json) -> tuple[Json, str]:
    """Follow references and lists down to an object; return it and "[]" or "{}" when it is one of many."""
    schema = _resolve(document, schema)
    if "items" in schema:
        return _resolve(document, schema["items"]), "[]"
    if isinstance(schema.get("additionalProperties"), dict):
        return _resolve(document, schema["additionalProperties"]), "{}"
    return schema, ""


def _resolve(document: Json, schema: Json) -> Json:
    """Follow ``$ref``, "this or null", and a reference with words around it."""
    if "$ref" in schema:
        return _resolve(document, document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]])
    choices = [one for one in schema.get("anyOf", schema.get("allOf", [])) if one.get("type") != "null"]
    return _resolve(document, choices[0]) if len(choices) == 1 else schema


def _type(document: Json, schema: Json) -> str:
    nullable = any(one.get("type") == "null" for one in schema.get("anyOf", []))
    resolved = _resolve(document, schema)
    text = " | ".join(str(one) for one in resolved.get("enum", [])) or _plain_type(document, resolved)
    return text + (" or null" if nullable else "")


def _plain_type(document: Json, schema: Json) -> str:
    if "items" in schema:
        return f"list of {_type(document, schema['items'])}"
    if "const" in schema:
        return str(schema["const"])
    text = str(schema.get("type", "any"))
    if schema.get("format") == "date-time":
        text = "time"
    bounds = [str(schema[key]) for key in ("minimum", "maximum") if key in schema]
    return text + (f" {'..'.join(bounds)}" if bounds else "")


def _default(schema: Json) -> str:
    return json.dumps(schema["default"]) if schema.get("default") not in (None, "") else ""


def _schema(content: Json) -> Json:
    media: Json = next(iter(content.get("content", {}).values()), {})
    found: Json = media.get("schema", {})
    return found


def _example(document: Json, schema: Json) -> str:
    examples = _resolve(document, schema).get("examples", [])
    return json.dumps(_ordered(document, schema, examples[0]), indent=2) if examples else ""


def _ordered(document: Json, schema: Json, value: Any) -> Any:
    """Put an example's names into the order of its schema; JSON schemas are sorted by name."""
    schema, _ = _inside(document, schema)
    if isinstance(value, list):
        return [_ordered(document, schema, item) for item in value]
    properties = schema.get("properties")
    if not isinstance(value, dict) or not properties:
        return value
    return {name: _ordered(document, one, value[name]) for name, one in properties.items() if name in value}


def _call(document: Json, method: str, url: str, operation: Json, body: Json) -> str:
    """Return how to call an operation with curl."""
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            example = parameter["schema"].get("examples", ["NAME"])[0]
            url = url.replace("{" + parameter["name"] + "}", str(example))
    examples = _resolve(document, body).get("examples", [])
    data = f" --json '{json.dumps(examples[0])}'" if examples else ""
    verb = "" if data or method == "GET" else f" -X {method}"
    return f'curl -H "Authorization: Bearer $TOKEN"{verb} {url}{data}'
