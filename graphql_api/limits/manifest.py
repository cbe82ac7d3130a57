"""The manifest of persisted documents: a JSON object of `sha256:<hex>` -> the document's text, checked before anything is served."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import orjson
from graphql import GraphQLError, GraphQLSchema

from domain.errors import DomainError, ErrorCode
from graphql_api.limits.documents import prepared


class ManifestError(DomainError):
    """A manifest, or a document for one, that is not good."""

    code = ErrorCode.VALIDATION


def id_of(document: str) -> str:
    """By which a client names a document: of its text, to the byte."""
    return f"sha256:{hashlib.sha256(document.encode()).hexdigest()}"


def read_manifest(path: Path, schema: GraphQLSchema) -> Mapping[str, str]:
    """The documents by their ids. Raises `ManifestError` for what is wrong, naming the document."""
    try:
        documents = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise ManifestError(f"{path}: not JSON: {error}") from None
    if not isinstance(documents, dict) or not all(isinstance(text, str) for text in documents.values()):
        raise ManifestError(f"{path}: not an object of ids and documents")
    for id, text in documents.items():
        if id != id_of(text):
            raise ManifestError(f"{path}: {id}: the document's id is {id_of(text)}")
        _check(f"{path}: {id}", text, schema)
    return documents


def write_manifest(path: Path, files: list[Path], schema: GraphQLSchema) -> Mapping[str, str]:
    """A manifest of these files, a document each. Raises `ManifestError`, naming the file, and then writes nothing."""
    documents = {}
    for file in files:
        try:
            text = file.read_bytes().decode()
        except OSError as error:
            raise ManifestError(f"{file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ManifestError(f"{file}: not UTF-8") from None
        _check(str(file), text, schema)
        documents[id_of(text)] = text
    path.write_bytes(orjson.dumps(documents, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
    return documents


def _check(where: str, text: str, schema: GraphQLSchema) -> None:
    try:
        errors = prepared(schema, text).errors
    except GraphQLError as error:
        errors = (error,)
    if errors:
        [line, column] = errors[0].locations[0] if errors[0].locations else (1, 1)
        raise ManifestError(f"{where}: line {line}, column {column}: {errors[0].message}")
