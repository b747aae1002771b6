"""Any array that means float32 or float64 is taken as what it means; `out` is taken or refused, never half written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv

SHAPES = {"x": (2, 4, 7, 6), "weight": (6, 4, 3, 2), "bias": (6,), "grad_output": (2, 6, 5, 5)}
Arrays = dict[str, np.ndarray]


@pytest.fixture
def plain() -> Arrays:
    rng = np.random.default_rng(3)
    return {name: rng.integers(-4, 5, shape).astype(np.float32) for name, shape in SHAPES.items()}


def in_every_direction(a: Arrays) -> dict[str, np.ndarray]:
    return {
        "forward": fastconv.conv2d(a["x"], a["weight"], a["bias"]),
        "transposed": fastconv.conv_transpose2d(a["grad_output"], a["weight"]),
        "input_gradient": fastconv.grad.conv2d_input(SHAPES["x"], a["weight"], a["grad_output"]),
        "weight_gradient": fastconv.grad.conv2d_weight(a["x"], SHAPES["weight"], a["grad_output"]),
    }


class Subclass(np.ndarray):
    pass


def sliced(a: np.ndarray) -> np.ndarray:
    wide = np.full([2 * n for n in a.shape], np.nan, a.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in a.shape)]
    view[...] = a
    return view


def backwards(a: np.ndarray) -> np.ndarray:
    every = tuple(slice(None, None, -1) for _ in a.shape)
    return a[every].copy()[every]


def off_by_a_byte(a: np.ndarray) -> np.ndarray:
    memory = np.zeros(a.nbytes + 1, np.uint8)[1:]
    view: np.ndarray = memory.view(a.dtype).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned
    return view


def odd_strides_of_size_one(a: np.ndarray) -> np.ndarray:
    """Axes of size 1 may have any stride: nothing may read it."""
    b = a[:, :1] if a.ndim > 1 else a
    return np.lib.stride_tricks.as_strided(
        b, b.shape, [12345 * 4 if n == 1 else s for n, s in zip(b.shape, b.strides, strict=True)]
    )


def read_only(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.flags.writeable = False
    return a


def on_disk(a: np.ndarray, folder: Path) -> np.ndarray:
    path = folder / "array.bin"
    a.tofile(path)
    return np.memmap(path, a.dtype, "r", shape=a.shape)


KINDS: dict[str, Callable[..., Any]] = {
    "Fortran order": np.asfortranarray,
    "channels last in memory": lambda a: np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) if a.ndim > 1 else a,
    "every other": sliced,
    "backwards": backwards,
    "off by a byte": off_by_a_byte,
    "read only": read_only,
    "big endian": lambda a: a.astype(">f4"),
    "little endian": lambda a: a.astype("<f4"),
    "subclass": lambda a: a.view(Subclass),
    "transposed": lambda a: a.T.copy().T,
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(a.tolist()),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SHAPES)
def test_kind(kind: str, name: str, plain: Arrays) -> None:
    before = {key: array.copy() for key, array in plain.items()}
    expected = in_every_direction(plain)
    got = in_every_direction(plain | {name: KINDS[kind](plain[name])})
    for direction, result in expected.items():
        np.testing.assert_array_equal(got[direction], result, err_msg=direction)
        assert type(got[direction]) is np.ndarray
        assert got[direction].dtype == np.dtype("=f4")
    for key, array in plain.items():
        np.testing.assert_array_equal(array, before[key], err_msg="an input was written to")


@pytest.mark.parametrize("name", ["x", "weight", "grad_output"])
def test_memory_map(name: str, plain: Arrays, tmp_path: Path) -> None:
    got = in_every_direction(plain | {name: on_disk(plain[name], tmp_path)})
    for direction, result in in_every_direction(plain).items():
        np.testing.assert_array_equal(got[direction], result)


def test_strides_of_zero(plain: Arrays) -> None:
    x = np.broadcast_to(np.float32(3), SHAPES["x"])
    np.testing.assert_array_equal(
        fastconv.conv2d(x, plain["weight"]), fastconv.conv2d(np.full(SHAPES["x"], 3, np.float32), plain["weight"])
    )
    w = np.broadcast_to(plain["weight"][:1], SHAPES["weight"])
    np.testing.assert_array_equal(fastconv.conv2d(plain["x"], w), fastconv.conv2d(plain["x"], w.copy()))


def test_absurd_strides_of_axes_of_size_one(plain: Arrays) -> None:
    """oneDNN#5942: a segmentation fault. Here a stride that is never used is never used."""
    x, w = plain["x"][:1, :1], plain["weight"][:, :1]
    odd_x, odd_w = odd_strides_of_size_one(x), odd_strides_of_size_one(w)
    np.testing.assert_array_equal(fastconv.conv2d(odd_x, odd_w), fastconv.conv2d(x.copy(), w.copy()))


def test_a_list_of_integers_means_numbers() -> None:
    y = fastconv.conv1d([[[1, 2, 3]]], [[[1, 10]]])
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, [[[21, 32]]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_unbatched(layout: str, dtype: type, plain: Arrays) -> None:
    a: Arrays = {name: array.astype(dtype) for name, array in plain.items()}
    if layout == "NHWC":
        a["x"], a["grad_output"] = (np.ascontiguousarray(np.moveaxis(a[n], 1, -1)) for n in ("x", "grad_output"))
    more: Any = {"layout": layout}
    batched = fastconv.conv2d(a["x"], a["weight"], a["bias"], **more)
    for i in range(2):
        alone = fastconv.conv2d(a["x"][i], a["weight"], a["bias"], **more)
        assert alone.dtype == dtype
        np.testing.assert_array_equal(alone, batched[i])
    np.testing.assert_array_equal(
        fastconv.conv_transpose2d(a["grad_output"][1], a["weight"], **more),
        fastconv.conv_transpose2d(a["grad_output"], a["weight"], **more)[1],
    )
    np.testing.assert_array_equal(
        fastconv.grad.conv2d_input(a["x"][0].shape, a["weight"], a["grad_output"][0], **more),
        fastconv.grad.conv2d_input(a["x"].shape, a["weight"], a["grad_output"], **more)[0],
    )
    np.testing.assert_array_equal(
        fastconv.grad.conv2d_weight(a["x"][0], SHAPES["weight"], a["grad_output"][0], **more),
        fastconv.grad.conv2d_weight(a["x"][:1], SHAPES["weight"], a["grad_output"][:1], **more),
    )


def test_empty_batch(plain: Arrays) -> None:
    x, y = plain["x"][:0], plain["grad_output"][:0]
    assert fastconv.conv2d(x, plain["weight"]).shape == (0, 6, 5, 5)
    assert fastconv.conv_transpose2d(y, plain["weight"]).shape == (0, 4, 7, 6)
    assert fastconv.grad.conv2d_input((0, 4, 7, 6), plain["weight"], y).shape == (0, 4, 7, 6)
    out = np.full(SHAPES["weight"], np.nan, np.float32)
    assert not fastconv.grad.conv2d_weight(x, SHAPES["weight"], y, out=out).any()


# -- out -------------------------------------------------------------------------------------------

OUT = (2, 6, 5, 5)


def test_out_is_returned_and_filled(plain: Arrays) -> None:
    out = np.full(OUT, np.nan, np.float32)
    assert fastconv.conv2d(plain["x"], plain["weight"], out=out) is out
    np.testing.assert_array_equal(out, fastconv.conv2d(plain["x"], plain["weight"]))


@pytest.mark.parametrize(
    ("out", "error", "words"),
    [
        (np.zeros(OUT, np.float64), TypeError, "out has dtype float64: expected float32"),
        (np.zeros(OUT, ">f4"), TypeError, "out has dtype >f4: expected float32"),
        (np.zeros(OUT, np.int32), TypeError, "out has dtype int32: expected float32"),
        (np.zeros((2, 6, 5, 4), np.float32), ValueError, r"out has shape \(2, 6, 5, 4\): expected \(2, 6, 5, 5\)"),
        (np.zeros((6, 5, 5), np.float32), ValueError, r"out has shape \(6, 5, 5\): expected"),
        (np.zeros((2, 6, 5, 10), np.float32)[..., ::2], ValueError, "out is not C-contiguous"),
        (np.asfortranarray(np.zeros(OUT, np.float32)), ValueError, "out is not C-contiguous"),
        (off_by_a_byte(np.zeros(OUT, np.float32)), ValueError, "aligned"),
        (read_only(np.zeros(OUT, np.float32)), ValueError, "out is read-only"),
        ([0.0], TypeError, "out is list: expected a NumPy array"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)[:30] if isinstance(value, str) else None),
)
def test_out_is_refused(out: Any, error: type[Exception], words: str, plain: Arrays) -> None:
    before = np.array(out)
    with pytest.raises(error, match=words):
        fastconv.conv2d(plain["x"], plain["weight"], out=out)
    np.testing.assert_array_equal(out, before)


def test_out_must_not_overlap() -> None:
    """Exactly, partly, by one element, or through another view: refused. Side by side: taken."""
    memory = np.ones(4 * 36 + 36, np.float32)
    x, w = memory[:72].reshape(1, 2, 6, 6), np.ones((2, 2, 1, 1), np.float32)
    for start in (0, 1, 36, 71):
        with pytest.raises(ValueError, match="out overlaps an input"):
            fastconv.conv2d(x, w, out=memory[start : start + 72].reshape(1, 2, 6, 6))
    beside = memory[72:144].reshape(1, 2, 6, 6)
    assert fastconv.conv2d(x, w, out=beside) is beside
    np.testing.assert_array_equal(beside, 2)
    with pytest.raises(ValueError, match="out overlaps an input"):
        fastconv.grad.conv2d_weight(
            np.ones((1, 2, 6, 6), np.float32), (2, 2, 1, 1), x, out=x.reshape(-1)[:4].reshape(2, 2, 1, 1)
        )


def test_out_that_interleaves_with_a_view(plain: Arrays) -> None:
    """x is every other element of out's memory: refused, or right because x was copied; never a mixture."""
    memory = np.zeros(2 * 72, np.float32)
    x = memory[::2].reshape(1, 2, 6, 6)
    x[...] = plain["x"].reshape(-1)[:72].reshape(1, 2, 6, 6)
    w = np.arange(4, dtype=np.float32).reshape(2, 2, 1, 1)
    expected = fastconv.conv2d(x.copy(), w)
    try:
        got = fastconv.conv2d(x, w, out=memory[:72].reshape(1, 2, 6, 6))
    except ValueError as error:
        assert "out overlaps an input" in str(error)
    else:
        np.testing.assert_array_equal(got, expected)


def test_weights_that_change_are_seen(plain: Arrays) -> None:
    """Nothing is kept by address: the same memory with other numbers gives another result."""
    w = plain["weight"].copy()
    for factor in (1, 2, -3):
        w[...] = factor * plain["weight"]
        np.testing.assert_array_equal(
            fastconv.conv2d(plain["x"], w), factor * fastconv.conv2d(plain["x"], plain["weight"])
        )
