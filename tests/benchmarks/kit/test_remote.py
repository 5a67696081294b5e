"""A kit is measured over SSH: by stand-ins for ssh and scp, and by a real server where there is one."""

import getpass
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.kit.remote import measure_on
from benchmarks.kit.result import read_result
from quant.errors import BadInput
from tests.octavo.project import call, check_refused

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
# Both drop their options; the home of `user@device` is $DEVICE, whose python3 is the bare one.
FAKE_SSH = """#!/bin/sh
while [ "$1" != user@device ]; do [ "$1" = BatchMode=yes ] && batch=1; shift; done
[ "$batch" ] || exit 9
[ "$CLOSED" ] && { echo "Permission denied (publickey)." >&2; exit 255; }
shift; cd "$DEVICE" && exec sh -c "$*"
"""
FAKE_SCP = """#!/bin/sh
while [ $# -gt 2 ]; do shift; done
place() { case "$1" in user@device:*) echo "$DEVICE/${1#user@device:}";; *) echo "$1";; esac; }
exec cp "$(place "$1")" "$(place "$2")"
"""


def script(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def device(tmp_path: Path, bare: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of user@device."""
    home = tmp_path / "home"
    home.mkdir()
    script(tmp_path / "bin" / "ssh", FAKE_SSH)
    script(tmp_path / "bin" / "scp", FAKE_SCP)
    script(tmp_path / "bin" / "python3", f'#!/bin/sh\nexec "{bare}" "$@"\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("DEVICE", str(home))
    return home


def test_a_device_is_measured_and_left_as_it_was(run: Path, device: Path) -> None:
    done = call("bench", run, "--host", "user@device", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["variants"][0]["name"] == "fp32"
    assert list(device.iterdir()) == []
    (result,) = (run / "kits").glob("*.user@device.json")
    assert len(read_result(result).sets) == 2


def test_what_goes_wrong_is_one_line(run: Path, device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("-oProxyCommand=x", "a b", "user@device; rm", "user@device:22"):
        with pytest.raises(BadInput, match="is not a host such as user@device"):
            measure_on(host, run, print)
    script(device.parent / "bin" / "python3", "#!/bin/sh\nexit 7\n")
    with pytest.raises(BadInput, match="user@device: ssh ended with 7; what it has is left there"):
        measure_on("user@device", run, print)
    assert [f.name[:11] for f in device.iterdir()] == ["octavo-kit-"]
    monkeypatch.setenv("CLOSED", "1")
    refused = call("bench", run, "--host", "user@device")
    check_refused(
        refused, "cannot be reached without a password", "Permission denied", "ssh-copy-id user@device"
    )


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of one's own, and a client that knows its port and key; gives its host."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no sshd is installed: apt-get install openssh-server")
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "server.conf").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path / 'host'}\nStrictModes no\nUsePAM no\n"
        f"AuthorizedKeysFile {tmp_path / 'client.pub'}\nPidFile none\nPermitRootLogin yes\n"
        "Subsystem sftp internal-sftp\n"
    )
    (tmp_path / "client.conf").write_text(
        f"Host device\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n"
        f" IdentityFile {tmp_path / 'client'}\n IdentitiesOnly yes\n"
        f" StrictHostKeyChecking no\n UserKnownHostsFile {tmp_path / 'known'}\n LogLevel ERROR\n"
    )
    for name in ("ssh", "scp"):
        real = shutil.which(name)
        script(tmp_path / "bin" / name, f'#!/bin/sh\nexec {real} -F {tmp_path / "client.conf"} "$@"\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with subprocess.Popen([SSHD, "-D", "-e", "-f", tmp_path / "server.conf"], stderr=subprocess.PIPE) as sshd:
        try:
            for _ in range(50):
                if (
                    subprocess.run(["ssh", "device", "true"], capture_output=True, check=False).returncode
                    == 0
                ):
                    break
                if sshd.poll() is not None:
                    assert sshd.stderr is not None
                    pytest.skip(f"sshd does not start here: {sshd.stderr.read().decode(errors='replace')}")
                time.sleep(0.1)
            yield "device"
        finally:
            sshd.terminate()


def test_over_a_real_server(run: Path, server: str, bare: Path) -> None:
    assert len(read_result(measure_on(server, run, print, str(bare))).sets) == 2
