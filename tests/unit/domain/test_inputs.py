"""What a caller may say about an ingestion; each refusal names its field, and costs no more than the input is long."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import ErrorCode, ValidationError
from domain.ingestions.entities import (
    BadRowPolicy,
    ColumnHint,
    Destination,
    DiscoveryMode,
    Execution,
    FormatSpec,
    FormatType,
    Policies,
    Schedule,
    Source,
    SourceType,
)
from domain.ingestions.inputs import LIST_EVERY_SECONDS, IngestionCreate, IngestionUpdate, PoliciesInput
from domain.runs.service import RunRequest
from tests.factories import a_create_input, a_notified_source, a_source

S3 = {"type": "S3", "path": "s3://landing/events/"}
LAKE = {"database": "lake", "table": "events"}


def wrong(model: Any, data: Any) -> dict[tuple[str, ...], str]:
    """Message by field."""
    with pytest.raises(ValidationError) as caught:
        model.parse(data)
    assert caught.value.code is ErrorCode.VALIDATION
    assert len(caught.value.message) < 100_000
    caught.value.message.encode()
    return {field.path: field.message for field in caught.value.fields}


def fields_of(**fields: Any) -> set[tuple[str, ...]]:
    """The fields that are wrong in an otherwise acceptable input."""
    return set(wrong(IngestionCreate, a_create_input(**fields)))


class TestCreate:
    def test_everything_that_can_be_said(self) -> None:
        parsed = IngestionCreate.parse(
            a_create_input(
                name="  events  ",
                source={**S3, "glob": "**/*.csv", "modified_after": "2026-01-01T00:00:00Z", "min_age_seconds": 60, "credential": "lake"},
                format={"type": "CSV", "options": {"delimiter": ";"}, "hints": [{"column": "at", "type": "decimal(10, 2)"}]},
                destination={**LAKE, "partition_by": ["day(at)"], "sort_by": ["id"]},
                schedule={"cron": "0 * * * *", "timezone": "Europe/Berlin"},
                policies={"bad_rows": "RESCUE", "max_files_per_run": 5},
                execution={"cluster_size": "LARGE"},
                activate=True,
                idempotency_key="k",
            )
        )
        assert parsed.name == "events"
        after = datetime(2026, 1, 1, tzinfo=UTC)
        source = Source(SourceType.S3, S3["path"], glob="**/*.csv", modified_after=after, min_age_seconds=60, credential="lake")
        assert parsed.source.to_source() == source
        assert parsed.format.to_format() == FormatSpec(FormatType.CSV, {"delimiter": ";"}, (ColumnHint("at", "decimal(10, 2)"),))
        assert parsed.destination.to_destination() == Destination("autoloader", "lake", "events", ("day(at)",), ("id",))
        assert parsed.schedule is not None
        assert parsed.schedule.to_schedule() == Schedule("0 * * * *", "Europe/Berlin")
        assert parsed.policies.to_policies() == Policies(bad_rows=BadRowPolicy.RESCUE, max_files_per_run=5)

    def test_defaults(self) -> None:
        parsed = IngestionCreate.parse(a_create_input())
        assert (parsed.policies.to_policies(), parsed.execution.to_execution()) == (Policies(), Execution())
        assert (parsed.activate, parsed.schedule, parsed.idempotency_key) == (False, None, None)

    @pytest.mark.scenario(131)
    def test_required_fields(self) -> None:
        assert set(wrong(IngestionCreate, {})) == {("name",), ("source",), ("format",), ("destination",)}
        assert fields_of(source={}, format={}, destination={}) == {
            ("source", "path"),
            ("format", "type"),
            ("destination", "database"),
            ("destination", "table"),
        }

    def test_unknown_fields(self) -> None:
        assert fields_of(naem="x", source={**S3, "pahts": 1}) == {("naem",), ("source", "pahts")}

    @pytest.mark.scenario(4)
    @pytest.mark.parametrize(
        ("type", "path"),
        [
            *(("S3", path) for path in ["", " ", "landing/events", "s3://", "s3:///x", "s3:/landing/x", "S3://landing/", "gs://landing/x",
              "s3://UPPER/x", "s3://a/x", "s3://under_score/x", "s3://" + "a" * 64 + "/x", "/data", "https://landing.s3.amazonaws.com/x"]),
            *(("LOCAL", path) for path in ["", ".", "data", "./data", "~/data", "file:///data", "/data/../etc", "/..", "s3://landing/x"]),
            *((type, path) for type in ("S3", "LOCAL") for path in ("/da\0ta", "/\ud800", "/" + "x" * 5_000, None, 5, ["/data"])),
        ],
    )  # fmt: skip
    def test_paths(self, type: str, path: Any) -> None:
        assert fields_of(source={"type": type, "path": path}) == {("source", "path")}

    @pytest.mark.parametrize(
        ("path", "normal"),
        [("/data", "/data"), ("/data/", "/data"), ("//data//in/./x/", "/data/in/x"), ("/", "/"), ("/a b/ü", "/a b/ü")],
    )
    def test_folders_are_kept_in_one_form(self, path: str, normal: str) -> None:
        parsed = IngestionCreate.parse(a_create_input(source={"type": "LOCAL", "path": path}))
        assert parsed.source.to_source().path == normal

    @pytest.mark.scenario(5)
    @pytest.mark.parametrize("type", ["AZURE_BLOB", "GCS"])
    def test_sources_that_do_not_work_yet(self, type: str) -> None:
        errors = wrong(IngestionCreate, a_create_input(source={"type": type, "path": "s3://landing/"}))
        assert errors == {("source", "type"): f"{type} sources are not supported yet; S3 and LOCAL are"}

    def test_a_source_that_is_listened_to(self) -> None:
        given = {**S3, "discovery": "EVENTS", "queue": "landing-events_1"}
        source = IngestionCreate.parse(a_create_input(source=given)).source.to_source()
        assert (source.discovery, source.queue, source.queue_id) == (DiscoveryMode.EVENTS, "landing-events_1", None)
        assert source.list_every_seconds == LIST_EVERY_SECONDS
        often = IngestionCreate.parse(a_create_input(source=given | {"list_every_seconds": 60})).source.to_source()
        assert often.list_every_seconds == 60

    @pytest.mark.parametrize(
        "queue",
        [None, "", " ", "a b", "q/x", "q.fifo", "ü", "x" * 81, "a\n", "..", "https://sqs.eu-west-1.amazonaws.com/1/q", "//evil.example/q",
         "http://169.254.169.254/", "arn:aws:sqs:eu-west-1:1:q", "q@evil.example", "q%2F", 5],
    )  # fmt: skip
    def test_a_queue_is_a_name_and_leads_nowhere(self, queue: Any) -> None:
        assert fields_of(source={**S3, "discovery": "EVENTS", "queue": queue}) == {("source", "queue")}

    @pytest.mark.parametrize("seconds", [0, 59, 7 * 86_400 + 1, -1, "often"])
    def test_how_often_it_is_listed_all_the_same(self, seconds: Any) -> None:
        source = {**S3, "discovery": "EVENTS", "queue": "q", "list_every_seconds": seconds}
        assert fields_of(source=source) == {("source", "list_every_seconds")}

    def test_a_folder_sends_no_notifications(self) -> None:
        errors = wrong(IngestionCreate, a_create_input(source={"type": "LOCAL", "path": "/data", "discovery": "EVENTS", "queue": "q"}))
        assert errors == {("source", "discovery"): "a LOCAL source sends no notifications; S3 does"}

    @pytest.mark.scenario(132)
    @pytest.mark.parametrize("type", ["FTP", "s3", "", None, 1])
    def test_source_types(self, type: Any) -> None:
        assert fields_of(source={**S3, "type": type}) == {("source", "type")}

    @pytest.mark.scenario(133)
    @pytest.mark.parametrize("type", ["XML", "json", "", None, 1])
    def test_format_types(self, type: Any) -> None:
        assert fields_of(format={"type": type}) == {("format", "type")}

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("glob", "["), ("glob", "{a"), ("glob", ""), ("glob", "a\0"), ("glob", "x" * 5_000), ("glob", "{a,b}" * 200),
            ("modified_after", "yesterday"), ("modified_after", "2026-01-01T00:00:00"), ("min_age_seconds", -1),
            ("min_age_seconds", 10**30), ("discovery", "GUESSING"), ("queue", "q"), ("list_every_seconds", 3_600),
            ("credential", ""), ("credential", "x" * 201), ("credential", "a\0"),
        ],
    )  # fmt: skip
    def test_source_fields(self, field: str, value: Any) -> None:
        assert fields_of(source={**S3, field: value}) == {("source", field)}

    @pytest.mark.parametrize(
        ("type", "options", "path"),
        [
            ("JSON", {"delimiter": ","}, ("delimiter",)), ("PARQUET", {"compression": "GZIP"}, ("compression",)),
            ("AVRO", {"x": 1}, ("x",)), ("ORC", {"x": 1}, ("x",)), ("CSV", {"delimeter": ","}, ("delimeter",)),
            ("CSV", {"delimiter": ""}, ("delimiter",)), ("CSV", {"delimiter": "ab"}, ("delimiter",)), ("CSV", {"quote": "\n"}, ("quote",)),
            ("CSV", {"delimiter": "\0"}, ("delimiter",)), ("CSV", {"escape": "\ud800"}, ("escape",)), ("CSV", {"header": 7}, ("header",)),
            ("CSV", {"encoding": "ebcdic"}, ("encoding",)), ("CSV", {"null_values": "NA"}, ("null_values",)),
            ("CSV", {"null_values": ["\0"]}, ("null_values", "0")), ("CSV", {"null_values": ["x"] * 101}, ("null_values",)),
            ("CSV", {"null_values": ["x" * 1_001]}, ("null_values", "0")), ("JSON", {"layout": "lines"}, ("layout",)),
            ("JSON", {"compression": "RAR"}, ("compression",)), ("JSON", "layout=LINES", ()), ("JSON", ["layout"], ()),
        ],
    )  # fmt: skip
    def test_format_options(self, type: str, options: Any, path: tuple[str, ...]) -> None:
        assert fields_of(format={"type": type, "options": options}) == {("format", "options", *path)}

    def test_an_unknown_option_is_told_as_such(self) -> None:
        errors = wrong(IngestionCreate, a_create_input(format={"type": "CSV", "options": {"delimeter": ","}}))
        assert errors == {("format", "options", "delimeter"): "unknown option of CSV"}

    @pytest.mark.parametrize(
        ("hints", "path"),
        [
            ([{"column": "a", "type": "varchar"}], ("0", "type")), ([{"column": "a", "type": "decimal(39, 2)"}], ("0", "type")),
            ([{"column": "", "type": "int"}], ("0", "column")), ([{"column": "a\0", "type": "int"}], ("0", "column")),
            ([{"column": "a", "type": "int"}, {"column": "a", "type": "long"}], ()), ([{"column": "a"}], ("0", "type")), ("a: int", ()),
        ],
    )  # fmt: skip
    def test_hints(self, hints: Any, path: tuple[str, ...]) -> None:
        assert fields_of(format={"type": "CSV", "hints": hints}) == {("format", "hints", *path)}

    @pytest.mark.parametrize("field", ["database", "table", "catalog"])
    @pytest.mark.parametrize("value", ["", "1a", "a.b", "a b", "a-b", "é", 'a"b', "a;drop", "a\0", "a\n", "\ud800", "x" * 129, None, 5])
    def test_identifiers(self, field: str, value: Any) -> None:
        assert fields_of(destination={**LAKE, field: value}) == {("destination", field)}

    @pytest.mark.parametrize(
        ("field", "value", "path"),
        [
            ("partition_by", ["day(ts", "x"], ()), ("partition_by", ["a"] * 17, ()), ("partition_by", ["a\0"], ("0",)),
            ("partition_by", "day(ts)", ()), ("sort_by", ["a b"], ("0",)), ("sort_by", ["a"] * 17, ()), ("catalog", "other", ()),
        ],
    )  # fmt: skip
    def test_destination_fields(self, field: str, value: Any, path: tuple[str, ...]) -> None:
        assert fields_of(destination={**LAKE, field: value}) == {("destination", field, *path)}

    @pytest.mark.parametrize(
        ("schedule", "field"),
        [
            ({"cron": "every day"}, "cron"), ({"cron": "60 * * * *"}, "cron"), ({"cron": "0 0 30 2 *"}, "cron"), ({"cron": "\0"}, "cron"),
            ({"cron": "x" * 10_000_000}, "cron"), ({"timezone": "UTC"}, "cron"), ({"cron": "0 * * * *", "timezone": "Mars"}, "timezone"),
            ({"cron": "0 * * * *", "timezone": "\ud800"}, "timezone"), ({"cron": "0 * * * *", "timezone": None}, "timezone"),
        ],
    )  # fmt: skip
    def test_schedules(self, schedule: Any, field: str) -> None:
        assert fields_of(schedule=schedule) == {("schedule", field)}

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("schema_evolution", "x"), ("changed_files", "x"),
            ("bad_rows", "IGNORE"), ("max_file_retries", -1), ("max_file_retries", 101), ("max_files_per_run", 0),
            ("max_files_per_run", 10**7 + 1), ("max_bytes_per_run", 0), ("max_bytes_per_run", 2**63), ("timeout_seconds", 0),
            ("timeout_seconds", 10**9), ("max_file_retries", None), ("timeout_seconds", 1.5),
        ],
    )  # fmt: skip
    def test_policies(self, field: str, value: Any) -> None:
        assert fields_of(policies={field: value}) == {("policies", field)}

    @pytest.mark.parametrize(("field", "value"), [("engine", "FLINK"), ("mode", "CONTINUOUS"), ("cluster_size", "HUGE")])
    def test_execution(self, field: str, value: Any) -> None:
        assert fields_of(execution={field: value}) == {("execution", field)}

    @pytest.mark.parametrize("name", ["", "   ", "a\0", "\ud800", "x" * 201, "x" * 10_000_000, None, 5])
    def test_names(self, name: Any) -> None:
        assert fields_of(name=name) == {("name",)}

    @pytest.mark.parametrize("key", ["", "a\0", "\ud800", "x" * 201])
    def test_idempotency_keys(self, key: str) -> None:
        assert fields_of(idempotency_key=key) == {("idempotency_key",)}
        run = {"ingestion_id": "00000000-0000-0000-0000-000000000000", "idempotency_key": key}
        assert set(wrong(RunRequest, run)) == {("idempotency_key",)}

    def test_every_wrong_field_is_named_at_once(self) -> None:
        data = a_create_input(name="", source={"path": "x"}, destination={"database": "1", "table": ""}, schedule={"cron": "x"})
        assert set(wrong(IngestionCreate, data)) == {
            ("name",), ("source", "path"), ("destination", "database"), ("destination", "table"), ("schedule", "cron"),
        }  # fmt: skip

    def test_what_is_shown_of_the_callers_own_words_is_short(self) -> None:
        data = a_create_input(**{f"{n}{'x' * 1_000_000}": 1 for n in range(3)}, **{str(n): n for n in range(5_000)})
        errors = wrong(IngestionCreate, data)
        assert len(errors) <= 100
        assert max(len(part) for path in errors for part in path) <= 100

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=10), children, max_size=3),
            max_leaves=10,
        ),
        st.sampled_from(["name", "source", "format", "destination", "schedule", "policies", "execution", "activate", "idempotency_key"]),
    )
    def test_any_value_is_taken_or_refused_by_name(self, value: Any, field: str) -> None:
        refused: set[str] = set()
        try:
            IngestionCreate.parse(a_create_input(**{field: value}))
        except ValidationError as error:
            refused = {wrong.path[0] for wrong in error.fields}
        assert refused <= {field}


class TestUpdate:
    @pytest.mark.scenario(134)
    @pytest.mark.parametrize("field", ["source_path", "path", "source", "destination", "id", "status", "checkpoint_path", "format_type"])
    def test_only_what_may_change(self, field: str) -> None:
        assert set(wrong(IngestionUpdate, {field: "s3://other/"})) == {(field,)}

    @pytest.mark.scenario(134)
    def test_all_that_may_change(self) -> None:
        update = IngestionUpdate.parse(
            {
                "expected_version": 3,
                "name": "new",
                "glob": "*.csv",
                "format_options": {"delimiter": ";"},
                "hints": [{"column": "a", "type": "int"}],
                "credential": "lake",
                "schedule": {"cron": "0 * * * *"},
                "policies": {"max_file_retries": 9},
            }
        )
        source, format, policies = update.applied_to(a_source(), FormatSpec(FormatType.CSV), Policies(bad_rows=BadRowPolicy.SKIP_ROW))
        assert source == a_source(glob="*.csv", credential="lake")
        assert format == FormatSpec(FormatType.CSV, {"delimiter": ";"}, (ColumnHint("a", "int"),))
        assert policies == Policies(bad_rows=BadRowPolicy.SKIP_ROW, max_file_retries=9)

    def test_absent_is_unchanged(self) -> None:
        format = FormatSpec(FormatType.CSV, {"header": False}, (ColumnHint("a", "int"),))
        before = (a_source(glob="*.csv", credential="x"), format, Policies(max_file_retries=9))
        assert IngestionUpdate.parse({}).applied_to(*before) == before

    def test_the_queue_is_known_by_its_id_as_long_as_the_same_credential_leads_there(self) -> None:
        def changed(**fields: Any) -> Source:
            return IngestionUpdate.parse(fields).applied_to(a_notified_source(), FormatSpec(FormatType.JSON), Policies())[0]

        assert changed(glob="*.json") == a_notified_source(glob="*.json")
        assert changed(credential="x") == a_notified_source(credential="x", queue_id=None)
        assert changed(queue="other") == a_notified_source("other", queue_id=None)
        assert changed(list_every_seconds=None) == a_notified_source(list_every_seconds=LIST_EVERY_SECONDS)
        assert changed(discovery="LISTING") == changed(discovery=None) == a_source()

    def test_null_clears(self) -> None:
        update = IngestionUpdate.parse(dict.fromkeys(("glob", "format_options", "hints", "credential", "policies")))
        source, format, policies = update.applied_to(
            a_source(glob="*.csv", credential="x"),
            FormatSpec(FormatType.CSV, {"header": False}, (ColumnHint("a", "int"),)),
            Policies(max_file_retries=9),
        )
        assert (source, format, policies) == (a_source(), FormatSpec(FormatType.CSV), Policies())

    def test_a_policy_that_is_null_goes_back_to_its_default_and_the_others_stay(self) -> None:
        update = IngestionUpdate.parse({"policies": {"max_file_retries": None}})
        before = Policies(max_file_retries=9, timeout_seconds=60)
        assert update.applied_to(a_source(), FormatSpec(FormatType.JSON), before)[2] == Policies(timeout_seconds=60)

    @pytest.mark.parametrize(
        ("data", "path"),
        [
            ({"name": None}, ("name",)), ({"name": ""}, ("name",)), ({"glob": "["}, ("glob",)), ({"credential": "a\0"}, ("credential",)),
            ({"schedule": {"cron": "x"}}, ("schedule", "cron")), ({"hints": [{"column": "a", "type": "x"}]}, ("hints", "0", "type")),
            ({"expected_version": 0}, ("expected_version",)), ({"expected_version": 2**31}, ("expected_version",)),
        ],
    )  # fmt: skip
    def test_refusals_name_the_field(self, data: Any, path: tuple[str, ...]) -> None:
        assert set(wrong(IngestionUpdate, data)) == {path}

    @pytest.mark.parametrize(
        ("data", "path"),
        [
            ({"format_options": {"delimiter": "ab"}}, ("format_options", "delimiter")),
            ({"format_options": {"x": 1}}, ("format_options", "x")), ({"hints": [{"column": "a", "type": "int"}] * 2}, ("hints",)),
            ({"policies": {"timeout_seconds": 0}}, ("policies", "timeout_seconds")),
            ({"policies": {"nonsense": 0}}, ("policies", "nonsense")), ({"policies": {"bad_rows": "x"}}, ("policies", "bad_rows")),
        ],
    )  # fmt: skip
    def test_what_the_present_ingestion_cannot_take_names_the_updates_field(self, data: Any, path: tuple[str, ...]) -> None:
        with pytest.raises(ValidationError) as caught:
            IngestionUpdate.parse(data).applied_to(a_source(), FormatSpec(FormatType.CSV), Policies())
        assert {field.path for field in caught.value.fields} == {path}


def test_policies_that_are_stored_are_policies_that_can_be_said() -> None:
    assert PoliciesInput.parse({}).to_policies() == Policies()
