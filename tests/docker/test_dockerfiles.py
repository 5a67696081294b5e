"""The Dockerfiles, read as text: what no engine would refuse, but a user would regret."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {path.name: path for path in sorted((ROOT / "docker").glob("*.Dockerfile"))}
SERVING = ("cpu.Dockerfile", "tensorrt.Dockerfile")
MADE = [name for name in FILES if name != "bundle.Dockerfile"]


def instructions(name: str) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", FILES[name].read_text(), flags=re.MULTILINE).replace("\\\n", "")
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(word.upper(), rest) for word, rest in lines]


def only(name: str, word: str) -> str:
    *_, found = [rest for w, rest in instructions(name) if w == word]
    return found


def test_there_are_these() -> None:
    assert set(FILES) == {
        "cpu.Dockerfile", "builder.Dockerfile", "tensorrt.Dockerfile", "bundle.Dockerfile",
    }  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_base_is_an_argument_that_the_user_gives(name: str) -> None:
    arguments, stages = {}, set()
    for word, rest in instructions(name):
        if word == "ARG":
            key, _, value = rest.partition("=")
            arguments.setdefault(key, value)
        if word == "FROM":
            base, *as_stage = re.sub(r"--platform=\S+\s+", "", rest).split()
            stages.update(as_stage[1:])
            if base == "scratch" or base in stages:
                continue
            (argument,) = re.fullmatch(r"\$\{(\w+)\}", base).groups()  # type: ignore[union-attr]
            # A default may only be another argument; anything else would be an image that can change.
            assert re.fullmatch(r"|\$\{\w+\}", arguments[argument])


@pytest.mark.parametrize("name", ["cpu.Dockerfile"])
def test_every_stage_says_its_platform(name: str) -> None:
    # buildah takes the platform of the stage before for one that says none
    assert all("--platform=" in rest for word, rest in instructions(name) if word == "FROM")


@pytest.mark.parametrize("name", MADE)
def test_runs_as_a_number_that_is_not_root(name: str) -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", only(name, "USER"))


@pytest.mark.parametrize("name", MADE)
def test_commands_need_no_shell(name: str) -> None:
    for word in ("ENTRYPOINT", "CMD"):
        assert all(isinstance(part, str) for part in json.loads(only(name, word)))


@pytest.mark.parametrize("name", SERVING)
def test_serves_our_module_at_the_ports_it_declares(name: str) -> None:
    entry = json.loads(only(name, "ENTRYPOINT"))
    assert entry[:3] == ["python3", "-m", "deploy.serve"]
    assert (ROOT / "deploy/serve/__main__.py").is_file()
    assert only(name, "EXPOSE").split() == ["8080", "8081"]
    assert only(name, "STOPSIGNAL") == "SIGTERM"
    assert json.loads(re.split(r"\bCMD\s+", only(name, "HEALTHCHECK"))[1])[0] == "python3"


@pytest.mark.parametrize("name", MADE)
def test_has_the_labels_of_the_open_container_initiative(name: str) -> None:
    labels = set(re.findall(r"(org\.opencontainers\.image\.\w+)=", only(name, "LABEL")))
    assert {
        f"org.opencontainers.image.{key}" for key in ("title", "version", "revision", "licenses")
    } <= labels


@pytest.mark.parametrize("name", MADE)
def test_packages_come_by_a_list_and_the_authority_is_a_secret(name: str) -> None:
    for word, rest in instructions(name):
        if word == "RUN" and "pip install" in rest:
            assert "--requirement" in rest or rest.rstrip().endswith("--no-deps --no-build-isolation /build")
            assert "--mount=type=secret,id=ca,required=false" in rest or "--no-deps" in rest
        assert not (word in ("COPY", "ADD") and ".crt" in rest)


@pytest.mark.parametrize("name", SERVING)
def test_serving_images_take_only_what_has_a_hash(name: str) -> None:
    runs = [rest for word, rest in instructions(name) if word == "RUN" and "pip install" in rest]
    assert runs
    assert all("--require-hashes" in run for run in runs)


@pytest.mark.parametrize("name", MADE)
def test_what_is_copied_exists_and_is_let_through_to_the_build(name: str) -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignore if line.startswith("!")]
    for word, rest in instructions(name):
        if word == "COPY" and "--from=" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(fnmatch(source, f"{a}") or source.startswith(f"{a}/") for a in allowed), source
