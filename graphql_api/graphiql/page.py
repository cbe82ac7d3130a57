"""GraphiQL's page: plain HTML that loads our assets and says, in attributes, what they need to know."""

from __future__ import annotations

import json
from functools import cache
from html import escape
from pathlib import Path

from graphql_api.graphiql.asset_files import assets

STYLES = ("graphiql.min.css", "page.css")
SCRIPTS = ("react.production.min.js", "react-dom.production.min.js", "graphiql.min.js", "bootstrap.js")
_DOCUMENTS = Path(__file__).parent / "documents"

_PAGE = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Autoloader - GraphiQL</title>
    <link rel="icon" href="data:,">
    {styles}
    {scripts}
  </head>
  <body>
    <div id="graphiql" data-endpoint="{endpoint}" data-tabs="{tabs}">
      <noscript><p>GraphiQL needs JavaScript.</p></noscript>
    </div>
  </body>
</html>
"""


def graphiql_page(*, endpoint: str) -> str:
    """The page for the API at `endpoint` (a path on the page's own server), whose assets are below `<endpoint>/assets/`.

    It holds no key: whoever has one opens the page with it behind a `#key=`, which stays in the browser.
    """
    return _PAGE.format(
        styles="\n    ".join(f'<link rel="stylesheet" href="{_url(endpoint, name)}">' for name in STYLES),
        # Deferred scripts run in their order, once the root element is there.
        scripts="\n    ".join(f'<script defer src="{_url(endpoint, name)}"></script>' for name in SCRIPTS),
        endpoint=escape(endpoint),
        tabs=escape(json.dumps(welcome_tabs())),
    )


@cache
def welcome_tabs() -> list[dict[str, str | None]]:
    """The tabs that a newcomer finds: documents that teach, with variables where there is a JSON file of the same name."""
    return [
        {"query": document.read_text(), "variables": variables.read_text() if variables.exists() else None}
        for document, variables in ((path, path.with_suffix(".json")) for path in sorted(_DOCUMENTS.glob("*.graphql")))
    ]


def _url(endpoint: str, name: str) -> str:
    return escape(f"{endpoint}/assets/{name}?v={assets()[name].tag}")
