"""`zooswarm train`: the networks of a recipe on one computer, stopped and resumed without changing a bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors import safe_open

from peer.local_training import TRAIN, seed_range
from protocol.errors import UsageError

RECIPE = """
name = "tiny"
class = "tiny"
[task]
machine = "SingleDirectMachine"
length = 6
sequences = 64
held_out = 32
[network]
layers = [{ kind = "gru", width = 4 }, { kind = "linear", width = 20 }]
[training]
learning_rate = 0.01
batch = 16
max_steps = %d
"""


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE % 120)
    return path


def train(recipe: Path, out: Path, seeds: str = "0:3", *more: str):
    return CliRunner().invoke(TRAIN, [str(recipe), "--seeds", seeds, "--out", str(out), "--threads", "1", *more])


def test_one_line_and_one_file_a_network(recipe, tmp_path):
    result = train(recipe, tmp_path / "out")
    assert result.exit_code == 0
    seeds, steps, losses, digests = zip(*(line.split() for line in result.stdout.splitlines()), strict=True)
    assert seeds == ("0", "1", "2") and steps == ("120",) * 3
    assert all(0 < float(loss) < 1 for loss in losses)
    with safe_open(tmp_path / "out" / "tiny-1.safetensors", "numpy") as f:
        assert f.get_tensor("0.weight_ih_l0").shape == (12, 9)
        assert f.get_tensor("1.bias").dtype == np.float32
        metadata = json.loads(f.metadata()["zooswarm"])
    assert metadata["digest"] == digests[1]
    assert metadata["seed"] == "1"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"tiny-{k}.safetensors" for k in range(3)]


def test_again_trains_only_what_is_missing_and_says_the_same(recipe, tmp_path):
    first = train(recipe, tmp_path / "out", "0:2")
    stamp = (tmp_path / "out" / "tiny-0.safetensors").stat().st_mtime_ns
    again = train(recipe, tmp_path / "out", "0:3")
    assert again.stdout.startswith(first.stdout)
    assert (tmp_path / "out" / "tiny-0.safetensors").stat().st_mtime_ns == stamp


def test_numpy_writes_the_same_files(recipe, tmp_path):
    recipe.write_text(RECIPE % 6)
    by_c = train(recipe, tmp_path / "c")
    by_numpy = train(recipe, tmp_path / "numpy", "0:3", "--backend", "numpy")
    assert by_c.stdout == by_numpy.stdout
    for path in (tmp_path / "c").iterdir():
        assert path.read_bytes() == (tmp_path / "numpy" / path.name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_goes_on_to_the_same_bits(recipe, tmp_path, stop):
    recipe.write_text(RECIPE % 15_000)
    code = "import peer.local_training as t; t.CHECKPOINT_SECONDS = 0.1; t.TRAIN()"
    command = [sys.executable, "-c", code, str(recipe), "--seeds", "0:2", "--out"]
    child = subprocess.Popen(
        [*command, str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # background jobs ignore it
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / ".tiny.checkpoint").exists():
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(stop)
    _, said = child.communicate(timeout=60)
    if stop == signal.SIGKILL:
        assert child.returncode == -signal.SIGKILL
    else:
        assert child.returncode == 130
        assert "0 of 2 networks" in said and "the same command goes on" in said
    resumed = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True, timeout=120)
    whole = CliRunner().invoke(TRAIN, [str(recipe), "--seeds", "0:2", "--out", str(tmp_path / "whole")])
    assert resumed.returncode == 0 and resumed.stdout == whole.stdout != ""
    assert not (tmp_path / "out" / ".tiny.checkpoint").exists()


def test_damaged_files_are_set_aside(recipe, tmp_path):
    out = tmp_path / "out"
    good = train(recipe, out).stdout
    path = out / "tiny-1.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (out / ".tiny.checkpoint").write_bytes(b"half a checkpoint")
    result = train(recipe, out)
    assert sorted(result.stdout.splitlines()) == sorted(good.splitlines())
    assert "damaged" in result.stderr and "set aside" in result.stderr
    assert (out / "tiny-1.damaged").read_bytes() == data


def test_another_recipes_network_is_never_overwritten(recipe, tmp_path):
    train(recipe, tmp_path / "out")
    recipe.write_text(RECIPE % 60)
    result = train(recipe, tmp_path / "out")
    assert isinstance(result.exception, UsageError)
    assert "another recipe" in str(result.exception)


@pytest.mark.parametrize("text", ["", "x", "3:3", "5:2", "-1:4", "1:2:3", "0:", ":4", "0:99999999", "2147483648", "²"])
def test_bad_seeds_are_one_clear_line(text):
    with pytest.raises(UsageError, match="--seeds") as caught:
        seed_range(text)
    assert "\n" not in str(caught.value)


def test_good_seeds():
    assert seed_range("0:8") == range(8)
    assert seed_range("7") == range(7, 8)
    assert seed_range("2147483647") == range(2**31 - 1, 2**31)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes anywhere")
def test_an_unwritable_folder_is_named(recipe, tmp_path):
    tmp_path.chmod(0o500)
    result = train(recipe, tmp_path / "out")
    assert isinstance(result.exception, UsageError) and str(tmp_path / "out") in str(result.exception)
