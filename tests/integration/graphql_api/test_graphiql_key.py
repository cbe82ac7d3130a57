"""Where GraphiQL's page has its key from, and where it leaves it: our script, run by Node in a browser of stubs."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from graphql_api.graphiql.asset_files import assets

KEY = "al_0123_s3cr3t"
_BROWSER = """
"use strict";
const fs = require("node:fs"), vm = require("node:vm");
const { script, hash, session, local } = JSON.parse(fs.readFileSync(0, "utf8"));
function storageOf(entries) {
  return {
    getItem: (name) => entries[name] ?? null,
    setItem: (name, value) => { entries[name] = value; },
    removeItem: (name) => { delete entries[name]; },
    clear: () => {},
    get length() { return Object.keys(entries).length; },
  };
}
const told = { address: null, given: null };
const browser = {
  URL, URLSearchParams, JSON,
  location: { href: "http://api.test/graphql?x=1" + hash, hash, pathname: "/graphql", search: "?x=1" },
  history: { replaceState: (state, title, address) => { told.address = address; } },
  sessionStorage: storageOf(session),
  localStorage: storageOf(local),
  document: { getElementById: () => ({ dataset: { endpoint: "/graphql", tabs: "[]" } }) },
  GraphiQL: { createFetcher: () => null },
  React: { createElement: (component, given) => { told.given = given; } },
  ReactDOM: { createRoot: () => ({ render: () => {} }) },
};
vm.runInNewContext(script, browser);
const { storage, ...given } = told.given;
// GraphiQL keeps what was executed, with its headers.
(storage ?? browser.localStorage).setItem("history", JSON.stringify({ headers: given.defaultHeaders ?? "" }));
const again = (storage ?? browser.localStorage).getItem("history");
process.stdout.write(JSON.stringify({ address: told.address, given, session, local, again }));
"""


def opened(*, hash: str = "", session: dict[str, str] | None = None) -> Any:
    """The page, opened by an address that ends with `hash`."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not on this machine")
    given = {"script": assets()["bootstrap.js"].content.decode(), "hash": hash, "session": session or {}, "local": {}}
    found = subprocess.run([node, "-e", _BROWSER], input=json.dumps(given), capture_output=True, text=True, timeout=60, check=True)
    return json.loads(found.stdout)


def test_the_key_is_filled_in_and_leaves_the_address() -> None:
    page = opened(hash=f"#key={KEY}")
    assert json.loads(page["given"]["defaultHeaders"]) == {"Authorization": f"Bearer {KEY}"}
    assert page["address"] == "/graphql?x=1"


def test_the_same_tab_has_it_when_it_is_loaded_again() -> None:
    page = opened(session=opened(hash=f"#key={KEY}")["session"])
    assert json.loads(page["given"]["defaultHeaders"]) == {"Authorization": f"Bearer {KEY}"}
    assert page["address"] is None


def test_it_is_kept_no_longer_than_the_tab() -> None:
    page = opened(hash=f"#key={KEY}")
    assert page["given"]["shouldPersistHeaders"] is False
    assert KEY not in json.dumps(page["local"])
    assert KEY in page["again"]


def test_without_a_key_nothing_is_filled_in() -> None:
    page = opened(hash="#elsewhere")
    assert "defaultHeaders" not in page["given"]
    assert (page["session"], page["address"]) == ({}, None)
