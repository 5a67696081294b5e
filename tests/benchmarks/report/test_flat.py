import builtins
import csv
import io
from typing import Any

import pytest

from benchmarks.report.flat import flat_csv, flat_rows, sample_rows
from benchmarks.report.parquet import figures_parquet, samples_parquet
from benchmarks.report.runs import Run
from benchmarks.results import Summary
from quant.errors import BadInput


def test_one_row_per_run_variant_and_configuration(summary: Summary) -> None:
    rows = flat_rows([Run("a", summary), Run("b", summary)])
    keys = [(r["run"], r["variant"], r["batch"], r["threads"]) for r in rows]
    one = [("fp32", 1, 2), ("fp32", 4, 2), ("int8-ort-x86", 1, 2), ("int8-ort-x86", 4, 2)]
    one.append(("int8-tensorrt", None, None))  # type: ignore[arg-type]
    assert keys == [(run, *key) for run in "ab" for key in one]


def test_figures_read_back_from_csv_are_those_of_the_summary(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(flat_csv(flat_rows([run])))))
    row, variant = rows[3], run.summary.variants[1]
    assert variant.latency is not None
    assert variant.accuracy is not None
    assert float(row["latency_median_ms"]) == variant.latency[1].median_ms
    assert float(row["latency_speedup_low"]) == 1.33
    assert float(row["accuracy_ci95_high"]) == variant.accuracy.ci95.high
    assert float(row["memory_peak_mib"]) == 97.2
    assert (row["reference"], rows[0]["reference"]) == ("false", "true")
    assert rows[4]["latency_median_ms"] == rows[4]["accuracy_top1"] == ""
    assert not any("samples" in name for name in row)


def test_parquet_holds_the_same_with_types(run: Run) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(io.BytesIO(figures_parquet([run])))
    assert table.to_pylist() == [
        {name: row.get(name) for name in table.column_names} for row in flat_rows([run])
    ]
    kinds = {field.name: str(field.type) for field in table.schema}
    assert (kinds["batch"], kinds["latency_median_ms"], kinds["reference"]) == ("int64", "double", "bool")


def test_samples_are_every_call_in_order(run: Run) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    found = parquet.read_table(io.BytesIO(samples_parquet([run]))).to_pylist()
    latency = run.summary.variants[1].latency
    assert latency is not None
    mine = [r for r in found if (r["variant"], r["batch"]) == ("int8-ort-x86", 4)]
    assert [r["ms"] for r in mine if r["phase"] == "steady"] == list(latency[1].samples_ms)
    assert [r["call"] for r in mine if r["phase"] == "warmup"] == [0, 1]
    assert len(found) == len(list(sample_rows([run]))) == 4 * 63


def test_without_pyarrow_the_user_is_told_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(BadInput, match=r"pip install 'octavo\[parquet\]'"):
        figures_parquet([run])
