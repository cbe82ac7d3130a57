"""The embedded engine's catalog, as Spark reaches it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from sqlalchemy import make_url

from integrations.engines.embedded import EmbeddedEngineSettings

_SEARCH_PATH = re.compile(r"-csearch_path=(\w+)")
_S3_NAMES = {"s3.region": "client.region"}
"""Of PyIceberg's properties, what Iceberg's own library calls by another name."""


def catalog_settings(settings: EmbeddedEngineSettings) -> Mapping[str, str]:
    """A session's settings for the catalog and warehouse of the embedded engine, passwords included."""
    url = make_url(settings.catalog_uri)
    schema = _SEARCH_PATH.search(str(url.query.get("options", "")))
    jdbc = f"jdbc:postgresql://{url.host or 'localhost'}:{url.port or 5432}/{quote(url.database or '', safe='')}"
    own = {
        "type": "jdbc",
        "uri": f"{jdbc}?currentSchema={schema[1]}" if schema else jdbc,
        "jdbc.user": url.username or "",
        "jdbc.password": str(url.password or ""),
        "jdbc.schema-version": "V1",
        "warehouse": settings.warehouse,
        # Tables are changed by others, too.
        "cache-enabled": "false",
        "io-impl": "org.apache.iceberg.io.ResolvingFileIO",
    }
    given = {_S3_NAMES.get(name, name): value for name, value in settings.catalog_properties.items() if name.startswith("s3.")}
    if "s3.endpoint" in given:
        given["s3.path-style-access"] = "true"
    prefix = f"spark.sql.catalog.{settings.catalog_name}"
    return {prefix: "org.apache.iceberg.spark.SparkCatalog"} | {f"{prefix}.{name}": value for name, value in {**given, **own}.items()}
