from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from benchmarks import (
    claims,
    counting,
    dashboard,
    load_files,
    nothing_new,
    one_file,
    operations,
    poison,
    prefect_cancel,
    prefect_worker,
    recovery,
    replacing,
    spark_files,
    telemetry,
)
from benchmarks.report import Report

BENCHMARKS = {
    "load": load_files.measure,
    "nothing-new-local": nothing_new.measure_local,
    "nothing-new-s3": nothing_new.measure_s3,
    "one-file": one_file.measure,
    "prefect": prefect_worker.measure,
    "prefect-cancel": prefect_cancel.measure,
    "replacing": replacing.measure,
    "dashboard": dashboard.measure,
    "operations": operations.measure,
    "counting": counting.measure,
    "claims": claims.measure,
    "poison": poison.measure,
    "recovery": recovery.measure,
    "telemetry": telemetry.measure,
    "spark": spark_files.measure,
}
ASKED_FOR_BY_NAME = {"spark"}
"""What takes minutes, Java and Maven Central."""


def main(names: list[str]) -> None:
    if unknown := [name for name in names if name not in BENCHMARKS]:
        sys.exit(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    logging.basicConfig(level=logging.WARNING)
    report = Report()
    for name in names or [name for name in BENCHMARKS if name not in ASKED_FOR_BY_NAME]:
        with tempfile.TemporaryDirectory(prefix=f"autoloader-bench-{name}-") as folder:
            place = Path(folder)
            place.chmod(0o711)  # PostgreSQL's unprivileged account has to come through when we are root.
            asyncio.run(BENCHMARKS[name](report, place))
    report.close()


if __name__ == "__main__":
    main(sys.argv[1:])
