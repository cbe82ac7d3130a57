"""Cursors: a place in one relation's order, opaque to clients, and checked like any other input."""

from __future__ import annotations

import base64
import binascii
import typing
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any
from uuid import UUID

import orjson
import pydantic
from pydantic import AfterValidator, AwareDatetime, Field, TypeAdapter

from domain.errors import ValidationError
from domain.ports.reader import Cursor
from domain.relations import Relation


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("NUL")
    return text


_KEY_TYPES: dict[object, Any] = {
    str: Annotated[str, AfterValidator(_without_nul)],
    int: Annotated[int, Field(ge=-(2**63), lt=2**63)],
    datetime: AwareDatetime,
    UUID: UUID,
}


@lru_cache(maxsize=256)
def _adapter(relation: Relation[Any], order: str) -> TypeAdapter[tuple[Any, ...]]:
    types = []
    for key in relation.sort_keys(order):
        entity = relation.link.entity if key.through and relation.link else relation.entity
        types.append(_KEY_TYPES[typing.get_type_hints(entity)[key.attribute]])
    keys: Any = tuple[tuple(types)]  # type: ignore[misc]  # a tuple type of these very types
    return TypeAdapter(keys)


def encode_cursor(relation: Relation[Any], order: str, cursor: Cursor) -> str:
    # The database driver's ids are a subclass of UUID, which orjson leaves to `default`.
    return base64.urlsafe_b64encode(orjson.dumps([relation.name, order, *cursor], default=str)).decode()


def decode_cursor(relation: Relation[Any], order: str, text: str, argument: str) -> Cursor:
    """Raises `ValidationError` for `argument` when `text` is no cursor of this relation in this order."""
    try:
        name, given_order, *values = orjson.loads(base64.b64decode(text.encode(), altchars=b"-_", validate=True))
        if (name, given_order) != (relation.name, order):
            raise ValueError(name)
        # Through JSON, so that only text becomes a moment or an id.
        return _adapter(relation, order).validate_json(orjson.dumps(values), strict=False)
    except (binascii.Error, UnicodeError, ValueError, TypeError, pydantic.ValidationError):
        raise ValidationError.of(argument, message="not a cursor of this connection in this order") from None
