"""``python -m fastconv recognize``: what digit a picture shows."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "recognize",
        help="say what digit a picture shows",
        description="Show a picture of any size, dark on light or light on dark, to a network that the demo trained.",
    )
    parser.add_argument("image", metavar="IMAGE.png", help="a picture of one digit")
    parser.add_argument("--load", required=True, metavar="W.npz", help="weights that demo --save has written")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the answer and the probabilities of all classes, the likeliest first."""
    from fastconv.demo import network, recognition, training

    model, size = network.network_of(args.load)
    picture = recognition.fit(recognition.read_picture(args.image), size)
    probabilities = training.answers(model, picture)[0]
    order = (-probabilities).argsort(kind="stable")
    print(f"{args.image}: {order[0]}")
    for i in order:
        print(f"  {i}  {probabilities[i]:7.2%}  {'#' * round(40 * float(probabilities[i]))}".rstrip())
    return 0
