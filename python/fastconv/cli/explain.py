"""``python -m fastconv explain``: which algorithm a convolution would use, and what each one would cost."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

import fastconv


def numbers(text: str) -> tuple[int, ...]:
    """Read "1,64,56,56" or "1x64x56x56"."""
    try:
        return tuple(int(part) for part in re.split(r"[,x]", text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected integers such as 1,64,56,56") from None


def padding(text: str) -> Any:
    """Read "1", "1,2", "same", "valid" or, with a low:high pair per axis, "0:1,0:1"."""
    if text in ("same", "valid"):
        return text
    if ":" not in text:
        return numbers(text)
    try:
        return tuple((int(low), int(high)) for low, high in (part.split(":") for part in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected pairs such as 0:1,0:1") from None


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "explain",
        help="show which algorithm a convolution would use, and why",
        description="Ask every algorithm for its estimated cost or its reason to refuse; nothing is computed.",
    )
    parser.add_argument("--input", type=numbers, required=True, metavar="N,C,H,W", help="shape of the input")
    parser.add_argument("--weight", type=numbers, required=True, metavar="O,I,H,W", help="shape of the filters")
    parser.add_argument("--bias", action="store_true", help="with a bias")
    parser.add_argument("--stride", type=numbers, default=(1,), metavar="S", help="default 1")
    parser.add_argument("--padding", type=padding, default=(0,), metavar="P", help="1, 1,2, 0:1,0:1, same or valid")
    parser.add_argument("--dilation", type=numbers, default=(1,), metavar="D", help="default 1")
    parser.add_argument("--groups", type=int, default=1, metavar="G", help="default 1")
    parser.add_argument("--layout", default="NCHW", help="NCHW (default) or NHWC")
    parser.add_argument("--activation", help="relu, relu6, silu or hardswish")
    parser.add_argument("--algorithm", default="auto", help="auto (default), exact or a name")
    parser.add_argument("--dtype", default="float32", help="float32 (default) or float64")
    parser.add_argument("--direction", default="forward", help="forward (default), input_gradient or weight_gradient")
    parser.add_argument("--threads", type=int, help="default: what the machine has")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the explanation; 2 where the arguments make no convolution."""
    try:
        with fastconv.threads(fastconv.get_num_threads() if args.threads is None else args.threads):
            explanation = fastconv.explain(
                args.input,
                args.weight,
                args.weight[:1] if args.bias else None,
                args.stride,
                args.padding,
                args.dilation,
                args.groups,
                layout=args.layout,
                activation=args.activation,
                algorithm=args.algorithm,
                dtype=args.dtype,
                direction=args.direction,
            )
    except (ValueError, TypeError, NotImplementedError) as error:
        print(f"fastconv explain: {error}", file=sys.stderr)
        return 2
    print(explanation)
    return 0
