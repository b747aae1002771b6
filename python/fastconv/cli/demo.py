"""``python -m fastconv demo``: train the network of the lecture, recognise, and draw what it has learned."""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any

import fastconv

_PACKAGES = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "tqdm": "tqdm"}


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "demo",
        help="train a small network on handwritten digits and show what it does",
        description="Train 25 filters 3x3, max pool 2, 50 filters 3x3, max pool 2, 100 units with ReLU, on "
        "scikit-learn's digits or on MNIST's files, and recognise images that it has not seen.",
    )
    add = parser.add_argument
    add("--data", metavar="FOLDER", help="four IDX files of MNIST or Fashion-MNIST, plain or .gz")
    add("--epochs", type=_count, help="how often each image is shown; default 30, with --data 3")
    add("--batch-size", type=_count, default=64, metavar="N", help="images per step; default 64")
    add("--lr", type=_positive, default=2e-3, help="learning rate of the first step; default 0.002")
    add("--seed", type=int, default=0, help="of the first weights and of the order of the images; default 0")
    add("--save", metavar="W.npz", help="write the weights")
    add("--load", metavar="W.npz", help="read weights instead of training")
    add("--out", default="fastconv-demo.png", metavar="FILE.png", help="default fastconv-demo.png")
    add(
        "--device",
        choices=["cpu", "cuda"],
        default="cpu",
        help="where to recognise, once it is trained on the processor; default cpu",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train or load, test, draw."""
    wanted = [name for name in _PACKAGES if not (name == "sklearn" and args.data)]
    missing = [_PACKAGES[name] for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"the demo needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    if args.seed < 0:
        raise ValueError(f"--seed={args.seed}: expected at least 0")
    if args.device == "cuda" and (reason := fastconv.cuda.why_not()):
        raise ValueError(f"--device cuda: {reason}")
    from fastconv import datasets, nn
    from fastconv.demo import network, picture, training

    data = datasets.load_idx_folder(args.data) if args.data else datasets.load_digits()
    size = data.train_images.shape[1:]
    model = network.lecture_network(size[1], size[2], data.classes, rng=args.seed)
    print(f"{data.name}: {len(data.train_images):,} images of {size[1]}x{size[2]} to learn from, "
          f"{len(data.test_images):,} to be asked about")  # fmt: skip
    if args.load:
        network.load(model, args.load)
    else:
        _train(model, data, args)
    if args.save:
        network.save(model, args.save)
        print(f"weights: {args.save}")
    if args.device == "cuda":
        model.to("cuda")
    given = training.answers(model, data.test_images, device=args.device).argmax(1)
    model.to("cpu")  # the pictures are drawn from its weights
    right = int((given == data.test_labels).sum())
    result = f"{right:,} of {len(given):,} held-out images recognised: {right / len(given):.2%}"
    print(f"\n{result}")
    for pair in training.worst_confusions(data.test_labels, given):
        print(f"  {pair.label} taken for {pair.answer}: {pair.times}")
    print(f"\n{nn.summary(model, size)}")
    picture.draw(model, data.test_images, data.test_labels, f"{data.name}: {result}", args.out)
    print(f"\npicture: {args.out}")
    return 0


def _train(model: fastconv.nn.Module, data: Any, args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from fastconv.demo import training

    epochs = args.epochs or (3 if args.data else 30)
    with tqdm(total=epochs * len(data.train_images), unit=" images", unit_scale=True, dynamic_ncols=True) as bar:
        recent = 0.0

        def report(progress: training.Progress) -> None:
            nonlocal recent
            # Over about the last 50 steps: one batch alone says little.
            recent = progress.loss if recent == 0 else 0.98 * recent + 0.02 * progress.loss
            bar.set_description(f"epoch {progress.epoch}/{epochs}", refresh=False)
            bar.set_postfix(loss=f"{recent:.4f}", refresh=False)
            bar.update(progress.images)

        training.train(
            model, data.train_images, data.train_labels, epochs=epochs, batch_size=args.batch_size, lr=args.lr,
            seed=args.seed, report=report,
        )  # fmt: skip


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: expected at least 1")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{number}: expected above 0")
    return number
