"""Settings and the command line."""

from pathlib import Path

import pytest

from deploy.serve.options import parse
from deploy.serve.settings import ServeSettings
from quant.errors import BadInput


def test_options_are_the_settings() -> None:
    command = parse(
        ["int8.zip", "f=fp32.zip", "--port", "0", "--batch-delay-ms", "2.5", "--no-grpc", "--host", "::"], "x"
    )
    assert command.bundles == ((None, Path("int8.zip")), ("f", Path("fp32.zip")))
    assert command.settings == ServeSettings(port=0, batch_delay_ms=2.5, grpc_port=None, host="::")
    assert parse(["a"], "x").settings == ServeSettings()


def test_a_path_with_an_equals_sign_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.zip").touch()
    assert parse(["a=b.zip", "x/y=z.zip"], "x").bundles == (
        (None, Path("a=b.zip")),
        (None, Path("x/y=z.zip")),
    )
    for text in ("=b.zip", "a="):
        with pytest.raises(BadInput, match="is not NAME=BUNDLE"):
            parse([text], "x")


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"], "octavo serve")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "after SIGTERM, how long the server still takes requests" in " ".join(text.split())


@pytest.mark.parametrize("value", ["nan", "-1", "0", "inf"])
def test_values_out_of_range_are_refused(value: str) -> None:
    with pytest.raises(BadInput, match=r"--timeout-s is .*; allowed is 0\.01 to 3600"):
        parse(["a", f"--timeout-s={value}"], "x")


def test_one_request_of_the_largest_always_fits() -> None:
    assert ServeSettings(max_request_mib=100, max_pending_mib=1).max_pending_bytes == 100 * 2**20
