"""The manifest of persisted documents: written, read again, and refused when it is not good."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autoloader.cli import app
from graphql_api.limits.manifest import ManifestError, id_of, read_manifest, write_manifest
from graphql_api.schema import schema

GOOD = "query Who {\n  viewer { tenant }\n}\n"


def read(path: Path, content: object) -> str:
    """What is wrong with a manifest of this content."""
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, schema._schema)
    return caught.value.message.removeprefix(str(path))


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    one, other, manifest = tmp_path / "one.graphql", tmp_path / "other.graphql", tmp_path / "documents.json"
    one.write_text(GOOD)
    other.write_bytes("{ ingestions { totalCount } }\r\n# naïve".encode())
    written = write_manifest(manifest, [one, other], schema._schema)
    assert read_manifest(manifest, schema._schema) == written == {id_of(text): text for text in (GOOD, other.read_bytes().decode())}
    assert all(id.startswith("sha256:") and len(id) == 71 for id in written)


def test_what_is_wrong_is_told_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "documents.json"
    with pytest.raises(ManifestError, match="No such file or directory"):
        read_manifest(path, schema._schema)
    assert read(path, b"{").startswith(": not JSON: ")
    assert read(path, []) == read(path, {id_of(GOOD): 3}) == ": not an object of ids and documents"
    assert read(path, {"sha256:00": GOOD}) == f": sha256:00: the document's id is {id_of(GOOD)}"
    assert read(path, {id_of("{"): "{"}) == f": {id_of('{')}: line 1, column 2: Syntax Error: Expected Name, found <EOF>."
    wrong = "{\n  nothing\n}"
    assert read(path, {id_of(wrong): wrong}) == f": {id_of(wrong)}: line 2, column 3: Cannot query field 'nothing' on type 'Query'."
    long = "{" + " __typename" * 1_000 + "}"
    assert read(path, {id_of(long): long}) == f": {id_of(long)}: line 1, column 1: The document has more than 500 fields."


def test_a_bad_document_is_not_written(tmp_path: Path) -> None:
    good, bad, manifest = tmp_path / "good.graphql", tmp_path / "bad.graphql", tmp_path / "documents.json"
    good.write_text(GOOD)
    bad.write_text("{ nothing }")
    with pytest.raises(ManifestError, match=r"bad\.graphql: line 1, column 3: Cannot query field 'nothing' on type 'Query'\."):
        write_manifest(manifest, [good, bad], schema._schema)
    bad.write_bytes(b"\xff")
    with pytest.raises(ManifestError, match=r"bad\.graphql: not UTF-8"):
        write_manifest(manifest, [good, bad], schema._schema)
    assert not manifest.exists()


def test_the_command_writes_it(tmp_path: Path) -> None:
    file, manifest = tmp_path / "who.graphql", tmp_path / "documents.json"
    file.write_text(GOOD)
    done = CliRunner().invoke(app, ["documents", str(file), "--to", str(manifest)])
    assert (done.exit_code, done.stdout.replace("\n", "")) == (0, f"1 documents in {manifest}")
    assert json.loads(manifest.read_text()) == {id_of(GOOD): GOOD}
    file.write_text("{ nothing }")
    refused = CliRunner().invoke(app, ["documents", str(file), "--to", str(manifest)])
    assert refused.exit_code == 1
    assert "Cannot query field 'nothing'" in refused.stdout
