"""The numbers of the lecture that this project realises."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv
from fastconv import nn

IMAGE = [
    [1, 0, 0, 0, 0, 1],
    [0, 1, 0, 0, 1, 0],
    [0, 0, 1, 1, 0, 0],
    [1, 0, 0, 0, 1, 0],
    [0, 1, 0, 0, 1, 0],
    [0, 0, 1, 0, 1, 0],
]
DIAGONAL = [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
VERTICAL = [[-1, 1, -1]] * 3
OF_DIAGONAL = [[3, -1, -3, -1], [-3, 1, 0, -3], [-3, -3, 0, 1], [3, -2, -2, -1]]
OF_VERTICAL = [[-1, -1, -1, -1], [-1, -1, -2, 1], [-1, -1, -2, 1], [-1, 0, -4, 3]]


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def image(request: pytest.FixtureRequest) -> np.ndarray:
    return np.array([[IMAGE]], request.param)


@pytest.fixture
def filters(image: np.ndarray) -> np.ndarray:
    return np.array([[DIAGONAL], [VERTICAL]], image.dtype)


@pytest.mark.parametrize("algorithm", ["auto", "exact", "reference"])
def test_convolution(image: np.ndarray, filters: np.ndarray, algorithm: str) -> None:
    maps = fastconv.conv2d(image, filters, algorithm=algorithm)
    np.testing.assert_array_equal(maps, [[OF_DIAGONAL, OF_VERTICAL]])


def test_plain_lists_of_numbers_are_enough() -> None:
    np.testing.assert_array_equal(fastconv.conv2d([[IMAGE]], [[DIAGONAL]]), [[OF_DIAGONAL]])


def test_max_pooling(image: np.ndarray, filters: np.ndarray) -> None:
    pooled = fastconv.max_pool2d(fastconv.conv2d(image, filters), 2)
    np.testing.assert_array_equal(pooled, [[[[3, 0], [3, 1]], [[-1, 1], [0, 3]]]])


def test_average_pooling(image: np.ndarray, filters: np.ndarray) -> None:
    pooled = fastconv.avg_pool2d(fastconv.conv2d(image, filters), 2)
    blocks = np.array([[OF_DIAGONAL, OF_VERTICAL]], image.dtype).reshape(1, 2, 2, 2, 2, 2)
    np.testing.assert_array_equal(pooled, blocks.sum((3, 5)) / 4)


def test_a_convolution_is_a_fully_connected_layer_with_missing_and_tied_weights(
    image: np.ndarray, filters: np.ndarray
) -> None:
    matrix = fastconv.conv2d_matrix(filters, (1, 6, 6))
    assert matrix.shape == (2 * 4 * 4, 6 * 6)
    # Each unit sees nine of the 36 pixels, and all units of a filter have the same nine weights.
    assert (np.count_nonzero(matrix, axis=1) == 9).all()
    for unit in range(16):
        np.testing.assert_array_equal(matrix[unit][matrix[unit] != 0], np.ravel(DIAGONAL))
        np.testing.assert_array_equal(matrix[16 + unit][matrix[16 + unit] != 0], np.ravel(VERTICAL))
    np.testing.assert_array_equal((matrix @ image.ravel()).reshape(1, 2, 4, 4), [[OF_DIAGONAL, OF_VERTICAL]])
    # The lecture numbers the pixels from 1: unit 1 of the first filter looks at 1 2 3, 7 8 9, 13 14 15.
    np.testing.assert_array_equal(np.flatnonzero(matrix[0]) + 1, [1, 2, 3, 7, 8, 9, 13, 14, 15])


def test_fully_connected_colour_image_costs_thirty_million_weights() -> None:
    rows = nn.summary(nn.Sequential(nn.Flatten(), nn.Linear(100 * 100 * 3, 1000, bias=False)), (3, 100, 100)).rows
    assert rows[1].parameters == rows[1].fully_connected == 30_000_000


def test_network() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 25, 3),
        nn.MaxPool2d(2),
        nn.Conv2d(25, 50, 3),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(1250, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )
    table = nn.summary(model, (1, 28, 28))
    assert [row.output_shape for row in table.rows] == [
        (25, 26, 26), (25, 13, 13), (50, 11, 11), (50, 5, 5), (1250,), (100,), (100,), (10,),
    ]  # fmt: skip
    # 9 weights per filter of the first layer, 225 per filter of the second, and one bias each.
    assert [row.parameters for row in table.rows] == [25 * 10, 0, 50 * 226, 0, 0, 125_100, 0, 1010]
    assert table.rows[0].fully_connected == 28 * 28 * 25 * 26 * 26 + 25 * 26 * 26
    assert table.rows[2].fully_connected == 25 * 13 * 13 * 50 * 11 * 11 + 50 * 11 * 11
    assert model(np.zeros((2, 1, 28, 28), np.float32)).shape == (2, 10)
