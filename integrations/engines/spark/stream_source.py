"""A folder as a stream of files, as it is told to Spark; and to Databricks, whose own source of that kind is `cloudFiles`.

Of files that Spark has seen it keeps the paths, in the checkpoint: each is read once, whatever becomes of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from domain.ingestions.entities import FormatSpec, Source
from domain.ingestions.formats import JsonLayout, JsonOptions
from domain.ingestions.streaming import stream_glob
from integrations.engines.spark.source_files import s3_options, s3_scheme
from integrations.object_store.credentials import S3Credential

_GLOB = re.compile(r"[\\{}\[\]*?]")
_OF_THE_SOURCE = {"maxFilesPerTrigger": "cloudFiles.maxFilesPerTrigger"}
_NOT_OF_CLOUD_FILES = {"maxFileAge"}
_NEVER = "36500d"
_VIEW = "viewfs"
"""Hadoop's scheme for a view of other file systems."""
_MOUNTED = "objects"
"""Where in the view the bucket is."""
_IN_VIEW = f"^{_VIEW}://([^/]+)/{_MOUNTED}/"


@dataclass(frozen=True, slots=True)
class FileStream:
    """What `SparkConnectClient.read_stream` reads: a path or Hadoop's pattern of some, and the reader's options, by Spark's names.

    `store` is where the files are, if not in folders of the server's.
    """

    format: str
    path: str
    schema: str
    options: Mapping[str, str]
    store: StreamStore | None = None


@dataclass(frozen=True, slots=True)
class StreamStore:
    """A bucket under a name that stays the same whatever credential it is read with: files are known by their URIs, in the checkpoint.

    `folder` is the URI of the source's folder, under the credential's own scheme, and `options` what opens it; they may be secret.
    `session` are the settings that lead from the one name to the other; they have no secrets.
    """

    folder: str
    options: Mapping[str, str] = field(repr=False)
    session: Mapping[str, str]


def cloud_files(stream: FileStream) -> FileStream:
    """The same for Databricks' Auto Loader. It never forgets a file either, and here reads no file a second time.

    It knows objects in S3 by their own URIs, and reads them with what Databricks has been granted of the bucket.
    """
    own = {
        "cloudFiles.format": stream.format,
        "cloudFiles.includeExistingFiles": "true",
        "cloudFiles.allowOverwrites": "false",
        # Patterns mean the same as for Spark's own source.
        "cloudFiles.useStrictGlobber": "true",
    }
    given = {_OF_THE_SOURCE.get(name, name): value for name, value in stream.options.items() if name not in _NOT_OF_CLOUD_FILES}
    path = re.sub(_IN_VIEW, r"s3://\1/", stream.path)
    return replace(stream, format="cloudFiles", path=path, options={**given, **own}, store=None)


def lines_of(source: Source, format_: FormatSpec, credential: S3Credential | None, *, max_files: int) -> FileStream:
    """The source's JSON files as text: a row for each line, or for each file where that holds an array."""
    path, any_folder = _pattern(source)
    options = {
        "maxFilesPerTrigger": str(max_files),
        # A file that has an old date and lands now is as new as any other.
        "maxFileAge": _NEVER,
        "recursiveFileLookup": str(any_folder).lower(),
        # A file that has gone since it was listed would stop the stream for good; the ledger tells of it.
        "ignoreMissingFiles": "true",
    }
    glob = stream_glob(source.glob) if source.glob is not None else None
    if glob is not None and glob.any_folder:
        options["pathGlobFilter"] = glob.pattern
    layout = JsonOptions.model_validate(dict(format_.options)).layout
    options |= {"wholetext": "true"} if layout is JsonLayout.ARRAY else {"lineSep": "\n"}
    if credential is None:
        return FileStream("text", f"file://{path}", "value STRING", options)
    bucket, _, prefix = path.removeprefix("s3://").partition("/")
    return FileStream("text", f"{_VIEW}://{bucket}/{_MOUNTED}/{prefix}", "value STRING", options, _store(source, credential, bucket))


def path_sql(uri: str, stream: FileStream) -> str:
    """The ledger's path, from a SQL expression of the URI that Spark gives in rows of the stream."""
    decoded = f"url_decode(replace({uri}, '+', '%2B'))"
    if stream.store is None:
        return f"regexp_replace({decoded}, '^file:/+', '/')"
    return f"regexp_replace({decoded}, '{_IN_VIEW}', 's3://$1/')"


def checkpoint_uri(checkpoint: str) -> str:
    """Where the checkpoint is, as Hadoop names it. It is reached with the server's own credential."""
    return re.sub("^s3://", "s3a://", checkpoint)


def _pattern(source: Source) -> tuple[str, bool]:
    """The source's path with what its glob adds, as Hadoop's pattern, and whether folders below are meant."""
    folder = _GLOB.sub(r"\\\g<0>", source.path)
    glob = stream_glob(source.glob) if source.glob is not None else None
    if glob is None or glob.any_folder:
        return folder, True
    return f"{folder.rstrip('/')}/{glob.pattern}", False


def _store(source: Source, credential: S3Credential, bucket: str) -> StreamStore:
    scheme = s3_scheme(credential)
    session = {
        # Views are made anew each time, and cost nothing; what they lead to is kept open by its own scheme.
        f"fs.{_VIEW}.impl": "org.apache.hadoop.fs.viewfs.ViewFileSystem",
        f"fs.{_VIEW}.impl.disable.cache": "true",
        f"fs.{_VIEW}.enable.inner.cache": "false",
        f"fs.{_VIEW}.mounttable.{bucket}.link./{_MOUNTED}": f"{scheme}://{bucket}/",
    }
    return StreamStore(f"{scheme}://{source.path.removeprefix('s3://')}", s3_options(credential, scheme, bucket), session)
