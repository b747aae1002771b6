"""The main job from the command line: train, recognise, draw; data files good and bad."""

from __future__ import annotations

import gzip
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import datasets, nn
from fastconv.__main__ import main
from fastconv.demo import network, recognition, training

needs_digits = pytest.mark.usefixtures("_digits")


@pytest.fixture
def _digits() -> None:
    for name in ("sklearn", "matplotlib", "tqdm"):
        pytest.importorskip(name)


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastconv", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def idx(array: np.ndarray, magic: bytes | None = None) -> bytes:
    """Write an array of bytes in the format of MNIST."""
    return (magic or bytes([0, 0, 8, array.ndim])) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def squares(count: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of a bright bar, lying (0) or standing (1), at a random place."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 40, (count, size, size)).astype(np.uint8)
    labels = rng.integers(0, 2, count).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        at = rng.integers(2, size - 4)
        (image.T if label else image)[at : at + 3] = 220
    return images, labels


def folder_of(path: Path, compressed: bool = False, size: int = 28) -> Path:
    for part, count in (("train", 256), ("t10k", 100)):
        images, labels = squares(count, size, count)
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            if compressed:
                (path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (path / name).write_bytes(idx(array))
    return path


@needs_digits
def test_default_demo_recognises_the_digits(tmp_path: Path) -> None:
    done = command("demo", "--out", tmp_path / "picture.png", "--save", tmp_path / "w.npz")
    assert done.returncode == 0, done.stderr
    accuracy = float(re.search(r"recognised: ([\d.]+)%", done.stdout)[1])  # type: ignore[index]
    assert accuracy >= 97.5
    assert "32,660" in done.stdout and "445,910" in done.stdout  # parameters, and those of fully connected layers
    assert "taken for" in done.stdout and "images/s" in done.stderr and "loss=" in done.stderr
    image = pytest.importorskip("matplotlib.image").imread(tmp_path / "picture.png")
    assert image.shape[0] > 600 and image.shape[1] > 1000 and image[..., :3].std() > 0.1
    with np.load(tmp_path / "w.npz", allow_pickle=False) as arrays:
        model = network.lecture_network(8, 8)
        model.load_state_dict(arrays)
    data = datasets.load_digits()
    given = training.answers(model, data.test_images).argmax(1)
    assert (given == data.test_labels).mean() == pytest.approx(accuracy / 100, abs=1e-4)
    again = command("demo", "--load", tmp_path / "w.npz", "--out", tmp_path / "again.png")
    assert f"recognised: {accuracy:.2f}%" in again.stdout and "images/s" not in again.stderr
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "picture.png").read_bytes()
    recognises(tmp_path, data, given)


def recognises(tmp_path: Path, data: datasets.Dataset, given: np.ndarray) -> None:
    """Show the network its own images as pictures: small, large, dark on light."""
    image_module = pytest.importorskip("PIL.Image")
    chosen = [int(np.flatnonzero((data.test_labels == digit) & (given == digit))[0]) for digit in range(10)]
    for i in chosen[:3]:
        image_module.fromarray((255 * data.test_images[i, 0]).astype(np.uint8)).save(tmp_path / "small.png")
        done = command("recognize", tmp_path / "small.png", "--load", tmp_path / "w.npz")
        assert done.stdout.startswith(f"{tmp_path / 'small.png'}: {data.test_labels[i]}\n"), done.stdout + done.stderr
        assert sum(float(share) for share in re.findall(r"([\d.]+)%", done.stdout)) == pytest.approx(100, abs=0.1)
    model, size = network.network_of(tmp_path / "w.npz")
    assert size == 8
    right = 0
    for i in chosen:
        grey = image_module.fromarray((255 * (1 - data.test_images[i, 0])).astype(np.uint8))
        page = image_module.new("RGB", (300, 260), "white")
        page.paste(grey.resize((120, 120), image_module.Resampling.BICUBIC), (90, 40))
        page.save(tmp_path / "page.jpg")
        shown = recognition.fit(recognition.read_picture(tmp_path / "page.jpg"), size)
        right += int(training.answers(model, shown)[0].argmax()) == data.test_labels[i]
    # The cut at the edge of the ink is not always where the image of the set had its own.
    assert right >= 8


@needs_digits
def test_result_depends_on_the_seed_alone() -> None:
    data = datasets.load_digits()

    def learned(seed: int) -> dict[str, np.ndarray]:
        model = network.lecture_network(8, 8, rng=seed)
        training.train(model, data.train_images[:500], data.train_labels[:500], epochs=2, seed=seed)
        return model.state_dict()

    with fastconv.threads(1):
        first, other = learned(3), learned(4)
    for count in (1, 2, 3):
        with fastconv.threads(count):
            for key, array in learned(3).items():
                np.testing.assert_array_equal(array, first[key])
    assert (first["0.weight"] != other["0.weight"]).any()


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gz"])
def test_demo_on_idx_files(tmp_path: Path, compressed: bool, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    folder = folder_of(tmp_path, compressed)
    arguments = ["demo", "--data", str(folder), "--epochs", "6", "--batch-size", "32", "--seed", "1"]
    assert main([*arguments, "--out", str(tmp_path / "p.png"), "--save", str(tmp_path / "w.npz")]) == 0
    told = capsys.readouterr().out
    assert "256 images of 28x28 to learn from, 100 to be asked about" in told
    assert float(re.search(r"recognised: ([\d.]+)%", told)[1]) >= 95  # type: ignore[index]
    model, size = network.network_of(tmp_path / "w.npz")
    assert size == 28 and model.state_dict()["7.weight"].shape == (2, 100)


def test_read_idx(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "a").write_bytes(idx(array))
    (tmp_path / "b").write_bytes(gzip.compress(idx(array)))
    (tmp_path / "c").write_bytes(idx(array.astype(">i4"), bytes([0, 0, 0x0C, 3])))
    for name in "abc":
        read = datasets.read_idx(tmp_path / name)
        np.testing.assert_array_equal(read, array)
        assert read.dtype == (np.int32 if name == "c" else np.uint8) and read.dtype.isnative


HUGE = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1)
IMAGES, LABELS = squares(4, 12, 0)
BAD_FILES: list[tuple[bytes, str]] = [
    (b"", "begins with nothing"),
    (b"\x89PNG" + bytes(100), "begins with 89 50 4e 47"),
    (idx(IMAGES, bytes([0, 0, 7, 3])), "begins with 00 00 07 03"),
    (bytes([0, 0, 8, 3, 0, 0]), "ends within the sizes"),
    (idx(IMAGES)[:-1], "has 575 bytes of data: expected 576"),
    (idx(IMAGES) + b"x", "has more than 576 bytes of data"),
    (HUGE + bytes(100), "has 100 bytes of data"),
    (gzip.compress(HUGE + bytes(100)), "has 100 bytes of data"),
    (gzip.compress(idx(IMAGES))[:-30], "is damaged"),
    (b"\x1f\x8b\x08" + bytes(50), "is damaged"),
    (idx(IMAGES.reshape(4, 144)), r"expected images of uint8"),
    (idx(IMAGES[:0]), "expected images of uint8"),
    (idx(IMAGES[:3]), "has 3 images and .* 256 labels"),
    (idx(squares(256, 12, 0)[0]), r"images of \(12, 12\) to train and of \(28, 28\) to test"),
]


@pytest.mark.parametrize(("content", "message"), BAD_FILES, ids=[message[:24] for _, message in BAD_FILES])
def test_bad_data_files(tmp_path: Path, content: bytes, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(tmp_path)
    (folder / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load_idx_folder(folder)
    assert "train-images-idx3-ubyte" in str(caught.value) or "to train" in str(caught.value)
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    assert main(["demo", "--data", str(folder), "--out", str(tmp_path / "p.png")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("fastconv demo: ") and told.count("\n") == 1
    assert not (tmp_path / "p.png").exists()


def test_missing_data_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="neither train-images-idx3-ubyte nor train-images-idx3-ubyte.gz"):
        datasets.load_idx_folder(tmp_path)


def pickled(path: Path) -> None:
    np.savez(path, **{"0.weight": np.array([{"a": 1}], dtype=object)})


def other_shapes(path: Path) -> None:
    model = network.lecture_network(8, 8, rng=0)
    np.savez(path, **{**model.state_dict(), "0.weight": np.zeros((25, 1, 5, 5), np.float32)})


BAD_WEIGHTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: None, "No such file"),
    "no_zip": (lambda path: path.write_bytes(b"x" * 100), "no .npz file"),
    "empty": (lambda path: path.write_bytes(b""), "no .npz file"),
    "npy": (lambda path: path.write_bytes(idx(IMAGES)), "no .npz file"),
    "cut_off": (lambda path: (other_shapes(path), path.write_bytes(path.read_bytes()[:-100])), "no .npz file"),
    "pickled": (pickled, "no .npz file of plain arrays: Object arrays cannot be loaded"),
    "other_network": (lambda path: np.savez(path, a=np.zeros(3)), "weights of the demo's network"),
    "other_shapes": (other_shapes, "0.weight has shape (25, 1, 5, 5), expected (25, 1, 3, 3)"),
}


@pytest.mark.parametrize(("write", "message"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_bad_weights(tmp_path: Path, write: Callable[[Path], Any], message: str) -> None:
    pytest.importorskip("PIL.Image").new("L", (8, 8)).save(tmp_path / "image.png")
    write(tmp_path / "w.npz")
    done = command("recognize", tmp_path / "image.png", "--load", tmp_path / "w.npz")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("fastconv recognize: ") and message in done.stderr and done.stderr.count("\n") == 1


@needs_digits
def test_demo_refuses_weights_of_another_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network.save(network.lecture_network(28, 28, rng=0), tmp_path / "w.npz")
    assert main(["demo", "--load", str(tmp_path / "w.npz"), "--out", str(tmp_path / "p.png")]) == 2
    assert "5.weight has shape (100, 1250), expected (100, 200)" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_bad_pictures(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("PIL")
    (tmp_path / "image.png").write_bytes(content)
    network.save(network.lecture_network(8, 8, rng=0), tmp_path / "w.npz")
    assert main(["recognize", str(tmp_path / "image.png"), "--load", str(tmp_path / "w.npz")]) == 2
    assert "no picture that Pillow can read" in capsys.readouterr().err


def test_picture_is_brought_to_the_size_of_the_network() -> None:
    pytest.importorskip("PIL")
    page = np.zeros((90, 70), np.float32)
    page[10:50, 5:25] = 1
    small = recognition.fit(page, 8)
    assert small.shape == (1, 1, 8, 8) and small.dtype == np.float32
    np.testing.assert_array_equal(small[0, 0], np.repeat([[0, 0, 1, 1, 1, 1, 0, 0]], 8, 0))
    large = recognition.fit(page, 28)[0, 0]
    np.testing.assert_array_equal(np.argwhere(large).min(0), [4, 9])
    np.testing.assert_array_equal(np.argwhere(large).max(0), [23, 18])
    assert not recognition.fit(np.zeros((5, 9), np.float32), 28).any()


@pytest.mark.parametrize("arguments", [["--epochs", "0"], ["--lr", "0"], ["--lr", "nan"], ["--batch-size", "x"]])
def test_bad_options(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["demo", *arguments])
    assert caught.value.code == 2 and arguments[0] in capsys.readouterr().err


def test_missing_packages_are_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["demo"]) == 1
    assert "pip install scikit-learn matplotlib tqdm\n" in capsys.readouterr().err
    for name, call in (
        ("sklearn.datasets", datasets.load_digits),
        ("PIL", lambda: recognition.read_picture("x.png")),
        ("matplotlib", lambda: fastconv.viz.show_feature_maps(np.ones((1, 2, 2)))),
    ):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match="pip install"):
            call()


def test_info_and_help() -> None:
    done = command("info")
    assert done.returncode == 0 and fastconv.__version__ in done.stdout and "threads" in done.stdout
    assert all(name in command().stdout for name in ("demo", "recognize", "info"))


def test_worst_confusions() -> None:
    labels, given = np.array([1, 1, 2, 3, 3, 3, 4]), np.array([7, 7, 2, 8, 3, 9, 7])
    assert training.worst_confusions(labels, given, 2) == [(1, 7, 2), (3, 8, 1)]
    assert training.worst_confusions(labels, labels) == []


def test_mosaic_and_pictures() -> None:
    viz = fastconv.viz
    maps = np.arange(20.0).reshape(5, 2, 2)
    picture = viz.mosaic(maps)
    assert picture.shape == (5, 8) and np.isnan(picture[2]).all() and np.isnan(picture[:, 2]).all()
    np.testing.assert_array_equal(picture[3:, 3:5], maps[4])
    assert viz.mosaic(maps, 5, 0).shape == (2, 10)
    with pytest.raises(ValueError, match="maps has shape"):
        viz.mosaic(maps[0])
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.subplots(1, 4)
    viz.show_filters(nn.Conv2d(3, 4, 3, rng=0).weight.data, channel=2, ax=axes[0])
    viz.show_feature_maps(np.zeros((3, 4, 4)), ax=axes[1])
    assert viz.show_answer(np.zeros((1, 8, 8)), 3, 5, ax=axes[2]).get_title() == "3, is 5"
    assert viz.show_answer(np.zeros((8, 8)), 3, 3, ax=axes[3]).get_title() == "3"
    with pytest.raises(ValueError, match="channel=3"):
        viz.show_filters(np.zeros((4, 3, 2, 2)), channel=3)
