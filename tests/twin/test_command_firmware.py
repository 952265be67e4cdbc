"""`twin firmware build` and `inspect`, as a vendor uses them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from firmware_files import VENDOR

from meters.datafile import parse
from protocols.errors import BadInputError
from protocols.firmware.file import TrustedKeys, open_firmware
from twin.firmware_maker import FirmwareSource, make_firmware

EXAMPLE = Path("docs/firmware-example.yaml").read_text(encoding="utf-8")


def twin(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twin", "firmware", *map(str, arguments)], capture_output=True, text=True, check=False,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vendor's key pair, made with the commands of the document."""
    folder = tmp_path_factory.mktemp("keys")
    private, public = folder / "vendor.pem", folder / "vendor-public.pem"
    make = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(private)]
    subprocess.run(make, check=True, capture_output=True)
    subprocess.run(
        ["openssl", "ec", "-in", str(private), "-pubout", "-out", str(public)], check=True, capture_output=True
    )
    return folder


def built(folder: Path, keys: Path, text: str = EXAMPLE) -> tuple[subprocess.CompletedProcess[str], Path]:
    source, target = folder / "source.yaml", folder / "new.oamifw"
    source.write_text(text, encoding="utf-8")
    return twin("build", source, "--key", keys / "vendor.pem", "--out", target), target


def test_the_example_of_the_document_is_built_and_inspected(tmp_path: Path, keys: Path) -> None:
    done, target = built(tmp_path, keys)
    assert done.returncode == 0, done.stderr
    file, _ = open_firmware(target.read_bytes(), TrustedKeys.from_pem((keys / "vendor-public.pem").read_bytes()))
    assert file.manifest.identification == "ihm5000-1p 5.1.0"
    shown = twin("inspect", target, "--key", keys / "vendor-public.pem", "--json")
    assert shown.returncode == 0, shown.stderr
    facts = json.loads(shown.stdout)
    assert (facts["signature"], facts["manifest"]["version"]) == ("trusted", "5.1.0")
    assert facts["routines"][1]["when"] == "every 10 s"
    assert facts["objects"][0]["obis"] == "0-0:96.128.0*255"
    assert "measure voltage_l1" in twin("inspect", target).stdout


def test_the_same_source_and_key_give_the_same_file(tmp_path: Path, keys: Path) -> None:
    first = built(tmp_path, keys)[1].read_bytes()
    assert built(tmp_path, keys)[1].read_bytes() == first


def test_inspect_names_the_check_that_a_file_fails(tmp_path: Path, keys: Path) -> None:
    target = built(tmp_path, keys)[1]
    target.write_bytes(target.read_bytes()[:-1])
    done = twin("inspect", target, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["fault"] == "size"
    assert "refused size: " in done.stderr


def test_inspect_refuses_what_another_vendor_has_signed(tmp_path: Path, keys: Path) -> None:
    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(other)], check=True)
    target = tmp_path / "new.oamifw"
    (tmp_path / "source.yaml").write_text(EXAMPLE)
    assert twin("build", tmp_path / "source.yaml", "--key", other, "--out", target).returncode == 0
    done = twin("inspect", target, "--key", keys / "vendor-public.pem")
    assert (done.returncode, "refused signature: " in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"modell": "x"}, "modell: unknown key"),
        ({"model": "ihm9000"}, "no model of that name"),
        ({"version": "five one"}, "version: must match"),
        ({"routines": [{"code": "push 1\nfly"}]}, "line 2 of the code: no operation 'fly'"),
        ({"objects": [{"obis": "0-0:96.128.0*255", "class": 1, "name": "x", "rights": "kings"}]}, "no such rights"),
        ({"resources": [{"name": "font", "file": "nowhere.bin"}]}, "nowhere.bin cannot be read"),
        ({"resources": [{"name": "all", "random_bytes": 400_000}]}, "a meter takes 389120 at most"),
    ],
)
def test_a_source_that_is_wrong_is_told_with_what_and_where(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    file = parse(yaml.safe_dump(yaml.safe_load(EXAMPLE) | change), str(tmp_path / "source.yaml"))
    with pytest.raises(BadInputError, match=re.escape(said)) as caught:
        make_firmware(file.check(FirmwareSource), VENDOR, file)
    assert (caught.value.file or "").endswith("source.yaml") or "no model" in said


def test_a_source_that_is_wrong_ends_the_command_with_status_2(tmp_path: Path, keys: Path) -> None:
    done, target = built(tmp_path, keys, EXAMPLE + "modell: x\n")
    assert (done.returncode, target.exists()) == (2, False)
    line = EXAMPLE.count("\n") + 1
    assert f"source.yaml:{line}: modell: unknown key" in done.stderr


def test_a_key_that_is_none_is_told_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "source.yaml").write_text(EXAMPLE)
    key = tmp_path / "key.pem"
    key.write_text("secret")
    done = twin("build", tmp_path / "source.yaml", "--key", key)
    assert (done.returncode, "not an unencrypted private key" in done.stderr, "secret" in done.stderr) == (
        2,
        True,
        False,
    )
