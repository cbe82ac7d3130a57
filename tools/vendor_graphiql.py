"""Fetch the files of GraphiQL's page that are not ours, and compare them with what VENDORED.md says of them.

    python tools/vendor_graphiql.py             put the files in their place again; stop if one differs from VENDORED.md
    python tools/vendor_graphiql.py --accept    take the files as they are and write VENDORED.md: after a change of a version below

Needs npm, whose registry it asks.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ASSETS = Path(__file__).parents[1] / "graphql_api" / "graphiql" / "assets"
RECORD = ASSETS / "VENDORED.md"
LICENCE = "MIT"


@dataclass(frozen=True)
class Vendored:
    """A file of an npm package, and its name among the assets."""

    package: str
    version: str
    member: str
    name: str


FILES = (
    Vendored("graphiql", "3.9.0", "graphiql.min.js", "graphiql.min.js"),
    Vendored("graphiql", "3.9.0", "graphiql.min.css", "graphiql.min.css"),
    Vendored("graphiql", "3.9.0", "LICENSE", "graphiql.LICENSE"),
    Vendored("react", "18.3.1", "umd/react.production.min.js", "react.production.min.js"),
    Vendored("react", "18.3.1", "LICENSE", "react.LICENSE"),
    Vendored("react-dom", "18.3.1", "umd/react-dom.production.min.js", "react-dom.production.min.js"),
    Vendored("react-dom", "18.3.1", "LICENSE", "react-dom.LICENSE"),
)


def fetch(into: Path) -> dict[str, bytes]:
    """The files' contents by their names among the assets."""
    packages = sorted({f"{file.package}@{file.version}" for file in FILES})
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("npm is needed, and is not on PATH")
    subprocess.run([npm, "pack", "--silent", *packages], cwd=into, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - no shell
    contents: dict[str, bytes] = {}
    for file in FILES:
        with tarfile.open(into / f"{file.package}-{file.version}.tgz") as archive:
            member = archive.extractfile(f"package/{file.member}")
            if member is None:
                raise SystemExit(f"{file.package}@{file.version} has no file {file.member}")
            contents[file.name] = member.read()
    return contents


def record(contents: dict[str, bytes]) -> str:
    """What VENDORED.md says of these contents."""
    packages = " ".join(sorted({f"{file.package}@{file.version}" for file in FILES}))
    rows = [
        f"| {file.name} | {file.package} | {file.version} | {file.member} | {LICENCE} | {hashlib.sha256(contents[file.name]).hexdigest()} |"
        for file in FILES
    ]
    return "\n".join(
        [
            "# Files that are not ours",
            "",
            "Unmodified, from npm packages, with their licences beside them. Fetched by",
            "",
            f"    npm pack {packages}",
            "",
            "and put here by `python tools/vendor_graphiql.py`, which does it again and checks the hashes.",
            "",
            "| file | package | version | file in the package | licence | sha256 |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accept", action="store_true", help="write VENDORED.md instead of comparing with it")
    accept = parser.parse_args().accept
    with tempfile.TemporaryDirectory() as folder:
        contents = fetch(Path(folder))
    told = record(contents)
    if not accept and told != RECORD.read_text():
        sys.stderr.write(f"what npm gave differs from {RECORD}; nothing was written. It gave:\n\n{told}")
        return 1
    for name, content in contents.items():
        (ASSETS / name).write_bytes(content)
    RECORD.write_text(told)
    sys.stdout.write(f"{len(contents)} files are as {RECORD.name} says\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
