"""Documents for every operation, made from the schema, so that a new one cannot be forgotten.

What the schema does not tell is said here, by schema coordinate: of which kind an id is. Whatever is missing fails with a message
that names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLUnionType,
    build_schema,
    get_named_type,
    is_leaf_type,
    is_required_argument,
    is_required_input_field,
)

from graphql_api.relay.ids import KINDS
from graphql_api.schema import sdl

SCHEMA = build_schema(sdl())

ROOTS = ("Query", "Mutation", "Subscription")

ID_KINDS: Mapping[str, tuple[str, ...]] = {
    "Query.node(id:)": tuple(KINDS),
    "Query.ingestion(id:)": ("Ingestion",),
    "Query.run(id:)": ("Run",),
    "Query.auditIngestion(id:)": ("Ingestion",),
    "Query.explainFile(ingestionId:)": ("Ingestion",),
    "RunFilter.ingestionId": ("Ingestion",),
    "ProcessedFileFilter.runId": ("Run",),
    "AuditEventFilter.subjectId": ("ApiKey",),
    "Mutation.activateIngestion(id:)": ("Ingestion",),
    "Mutation.pauseIngestion(id:)": ("Ingestion",),
    "Mutation.resumeIngestion(id:)": ("Ingestion",),
    "Mutation.cancelRun(id:)": ("Run",),
    "Mutation.revokeApiKey(id:)": ("ApiKey",),
    "Mutation.deleteWebhook(id:)": ("Webhook",),
    "Mutation.testWebhook(id:)": ("Webhook",),
    "Mutation.redeliverWebhook(id:)": ("WebhookDelivery",),
    "CreateWebhookInput.ingestionId": ("Ingestion",),
    "Subscription.runUpdated(runId:)": ("Run",),
    "Subscription.activity(ingestionId:)": ("Ingestion",),
    "UpdateIngestionInput.id": ("Ingestion",),
    "DeleteIngestionInput.id": ("Ingestion",),
    "RefreshIngestionInput.ingestionId": ("Ingestion",),
    "ClearProcessedFilesInput.ingestionId": ("Ingestion",),
    "RunIngestionInput.ingestionId": ("Ingestion",),
    "RetryRunInput.runId": ("Run",),
    "DecideSchemaChangeInput.id": ("SchemaChange",),
    "RetryFilesInput.ids": ("ProcessedFile",),
    "RetryFilesInput.ingestionId": ("Ingestion",),
    "SkipFilesInput.ids": ("ProcessedFile",),
    "SkipFilesInput.ingestionId": ("Ingestion",),
}
"""Schema coordinate of an id -> the kinds of node that it may be."""

SCALARS: Mapping[str, Any] = {
    "String": "example",
    "Int": 1,
    "BigInt": 1,
    "Float": 1.0,
    "Boolean": False,
    "DateTime": "2999-01-01T00:00:00Z",
    "JSON": {},
}
"""What a required scalar is given. No example has to be acceptable to the service: who may ask is decided first."""


GIVEN: Mapping[str, Any] = {"RefreshIngestionInput.confirm": True, "ClearProcessedFilesInput.confirm": True}
"""Optional inputs that are given all the same: without them the operation would not come as far as looking at its ids."""


class MissingFromTheWalkError(Exception):
    """Something in the schema that this file does not know."""


@dataclass(frozen=True)
class Id:
    """In the place of an id: which kind it is to be."""

    kind: str


@dataclass(frozen=True)
class Operation:
    """One way to call a root field: `arguments` with `Id`s in the places of ids."""

    root: str
    field: str
    arguments: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.root}.{self.field}"

    @property
    def kinds(self) -> set[str]:
        return set(_kinds(self.arguments))

    def document(self, ids: Mapping[str, str]) -> str:
        """The document, with `ids` by their kinds."""
        arguments = ", ".join(f"{name}: {_literal(value, ids)}" for name, value in self.arguments.items())
        field = _root(self.root).fields[self.field]
        return f"{self.root.lower()} {{ {self.field}{f'({arguments})' if arguments else ''}{_selection(field)} }}"


def operations() -> list[Operation]:
    """Each root field with its required arguments, and once more for each optional id and each kind that an id may be."""
    return [
        Operation(root, name, arguments)
        for root in ROOTS
        for name, field in _root(root).fields.items()
        for arguments in _variants({arg: (f"{root}.{name}({arg}:)", given) for arg, given in field.args.items()})
    ]


def plain(root: str, field: str) -> Operation:
    """The root field with its required arguments alone."""
    return next(operation for operation in operations() if (operation.root, operation.field) == (root, field))


def spoiled(scalar: str, value: Any) -> list[Operation]:
    """Each root field once for each of its inputs of this scalar, with `value` there; the required ones as in `operations`."""
    return [
        Operation(root, name, arguments)
        for root in ROOTS
        for name, field in _root(root).fields.items()
        for arguments in _spoiled({arg: (f"{root}.{name}({arg}:)", given) for arg, given in field.args.items()}, scalar, value)
    ]


def root_fields() -> list[tuple[str, str]]:
    return [(root, name) for root in ROOTS for name in _root(root).fields]


def _root(name: str) -> GraphQLObjectType:
    root = SCHEMA.get_type(name)
    assert isinstance(root, GraphQLObjectType)
    return root


_Inputs = Mapping[str, tuple[str, GraphQLArgument | GraphQLInputField]]


def _variants(inputs: _Inputs) -> Iterator[dict[str, Any]]:
    """Values for the required inputs; then the same with one more id each."""
    required = {name: next(_values(at, given.type)) for name, (at, given) in inputs.items() if _is_required(given)}
    required |= {name: GIVEN[at] for name, (at, _) in inputs.items() if at in GIVEN}
    yield required
    for name, (at, given) in inputs.items():
        if at in GIVEN:
            continue
        values = _values(at, given.type)
        if name in required:
            next(values)
        yield from (required | {name: value} for value in values if set(_kinds(value)))


def _values(at: str, type: Any) -> Iterator[Any]:
    """The plainest value for the input at this coordinate, then others that differ by an id."""
    if isinstance(type, GraphQLNonNull):
        yield from _values(at, type.of_type)
    elif isinstance(type, GraphQLList):
        yield from ([value] for value in _values(at, type.of_type))
    elif isinstance(type, GraphQLInputObjectType):
        yield from _variants({name: (f"{type.name}.{name}", field) for name, field in type.fields.items()})
    elif isinstance(type, GraphQLEnumType):
        yield _Enum(next(iter(type.values)))
    elif type.name == "ID":
        if at not in ID_KINDS:
            raise MissingFromTheWalkError(f"say in ID_KINDS of {__name__} which kind of id {at} takes")
        yield from (Id(kind) for kind in ID_KINDS[at])
    elif type.name in SCALARS:
        yield SCALARS[type.name]
    else:
        raise MissingFromTheWalkError(f"give SCALARS of {__name__} an example of {type.name}, which {at} takes")


def _spoiled(inputs: _Inputs, scalar: str, value: Any) -> Iterator[dict[str, Any]]:
    plain = next(_variants(inputs))
    for name, (at, given) in inputs.items():
        yield from (plain | {name: other} for other in _spoiled_values(at, given.type, scalar, value))


def _spoiled_values(at: str, type: Any, scalar: str, value: Any) -> Iterator[Any]:
    if isinstance(type, GraphQLNonNull):
        yield from _spoiled_values(at, type.of_type, scalar, value)
    elif isinstance(type, GraphQLList):
        yield from ([other] for other in _spoiled_values(at, type.of_type, scalar, value))
    elif isinstance(type, GraphQLInputObjectType):
        yield from _spoiled({name: (f"{type.name}.{name}", field) for name, field in type.fields.items()}, scalar, value)
    elif type.name == scalar:
        yield value


class _Enum(str):
    """Written without quotes."""


def _is_required(given: GraphQLArgument | GraphQLInputField) -> bool:
    return is_required_argument(given) if isinstance(given, GraphQLArgument) else is_required_input_field(given)


def _kinds(value: Any) -> Iterator[str]:
    if isinstance(value, Id):
        yield value.kind
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _kinds(part)
    elif isinstance(value, list):
        for part in value:
            yield from _kinds(part)


def _literal(value: Any, ids: Mapping[str, str]) -> str:
    if isinstance(value, Id):
        return json.dumps(ids[value.kind])
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_literal(part, ids)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(part, ids) for part in value) + "]"
    return value if isinstance(value, _Enum) else json.dumps(value)


def _selection(field: GraphQLField) -> str:
    """Enough to tell answers apart: every plain value of the thing itself, and every error's code and message."""
    type = get_named_type(field.type)
    if is_leaf_type(type):
        return ""
    if isinstance(type, GraphQLUnionType):
        error = SCHEMA.get_type("Error")
        assert isinstance(error, GraphQLInterfaceType)
        members = [member for member in type.types if error not in member.interfaces]
        things = " ".join(f"... on {member.name} {_leaves(member)}" for member in members)
        return "{ __typename ... on Error { code message } " + things + " }"
    return _leaves(type)


def _leaves(type: Any) -> str:
    leaves = [name for name, field in type.fields.items() if is_leaf_type(get_named_type(field.type)) and not field.args]
    return "{ __typename " + " ".join(leaves) + " }"
