"""Options that several commands share, so that they are spelled and explained once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecnn.cli._click import F, option, within

if TYPE_CHECKING:
    from runtimes.base import Track

FILE = click.Path(path_type=Path)
THREADS = within("threads")


class Counts(click.ParamType):  # type: ignore[type-arg]  # generic to type checkers alone, in old clicks
    """`1,4,16` as (1, 4, 16); one number alone as itself, as the Python call takes it."""

    name = "N,..."

    def __init__(self, each: click.ParamType[int]) -> None:
        self.each = each

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        if not isinstance(value, str):
            return value
        found = tuple(dict.fromkeys(self.each.convert(word.strip(), param, ctx) for word in value.split(",")))
        return found if len(found) > 1 else found[0]


source = click.argument("source", metavar="SOURCE")


def output(what: str) -> Callable[[F], F]:
    return option("-o", "--output", required=True, type=FILE, group="Output", help=f"Where to write {what}.")


force = option("--force", is_flag=True, group="Output", help="Replace an existing output.")
seed = option(
    "--seed",
    type=within("seed"),
    default=0,
    group="Repeat",
    help="Of what is drawn at random: the same seed draws the same.",
)
weights = option("--weights", type=FILE, group="Network", help="State dict: .safetensors, or .pt (tensors only).")
num_classes = option("--num-classes", type=within("num_classes"), group="Network",
                     help="Outputs of the network; read from the weights where it can be.")  # fmt: skip
input_shape = option("--input-shape", metavar="SHAPE", group="Network",
                     help="e.g. 3,224,224 or x:1,3,224,224.")  # fmt: skip
source_shapes = option("--input-shape", multiple=True, metavar="SHAPE", group="Network",
                       help="e.g. 3,224,224; for several inputs one each, as image:3,64,64.")  # fmt: skip
input_shapes = option("--input-shape", multiple=True, metavar="SHAPE", group="Input",
                      help="e.g. 3,224,224 or x:1,3,224,224, the batch may be left out; repeatable.")  # fmt: skip
labels = option("--labels", type=FILE, group="Network", help="Class names: a JSON list, or one name a line.")
preprocess = option("--preprocess", metavar="HOW", group="Network",
                    help="Pixels: imagenet, unit (x/255), signed (-1 to 1), raw (0 to 255), caffe (BGR), "
                         "yolo (letterbox), or a .json.")  # fmt: skip
decode = option("--decode", metavar="HEAD", group="Network",
                help="Boxes from a raw head: yolov8, yolov5, yolov10; yolov8:score=0.2,iou=0.45,most=300.")  # fmt: skip
answer = option("--answer", metavar="NAME", group="Network",
                help="Of several outputs keep this alone: a key of the dict, or a place, from 0.")  # fmt: skip
provider = option("--provider", default="cpu", group="Machine",
                  help="Where to run: cpu, cuda, or with options cuda:use_tf32=1,prefer_nhwc=1.")  # fmt: skip
require_all = option(
    "--require-all",
    is_flag=True,
    group="Machine",
    help="Fail when a node runs anywhere but on --provider (shape arithmetic excepted).",
)
threads = option("--threads", type=THREADS, group="Machine",
                 help="Default: the processors this process may use.")  # fmt: skip
providers = option("--provider", default="cpu", group="Machine", help="Where to run: cpu, cuda, or a list as cpu,cuda.")
thread_counts = option("--threads", type=Counts(THREADS), group="Machine",
                       help="One number, or a list as 1,2. Default: the processors this process may use.")  # fmt: skip
race_threads = option("--threads", type=THREADS, default=1, group="Machine",
                      help="Threads in the race; on one, CPU time can be trusted most.")  # fmt: skip
batch = option("--batch", type=within("batch"), default=1, group="Input", help="Images at once.")
batches = option("--batch", type=Counts(within("batch")), default=1, group="Input",
                 help="Images at once: one number, or a list as 1,4,16.")  # fmt: skip
limit = option("--limit", type=within("limit"), group="Data",
               help="Use at most this many images, drawn from all by --seed; default: all.")  # fmt: skip
calib_limit = option("--limit", type=within("limit"), default=128, group="Data",
                     help="Calibrate on at most this many images, drawn by --seed.")  # fmt: skip
calib = option("--calib", required=True, metavar="DATA", group="Data",
               help="Images of typical activations: folder, picture, .npz, .npy, `digits`, or `random`.")  # fmt: skip
data = option("--data", metavar="DATA", group="Data", help="Labelled images to measure accuracy on.")
skip_unreadable = option("--skip-unreadable", is_flag=True, group="Data",
                         help="Leave out pictures that cannot be read, and name them.")  # fmt: skip
calibrator = option(
    "--calibrator", default="minmax", group="Quantization", help="Rule that turns activations into ranges."
)
search_budget = option("--search-budget", type=within("search_budget"), default=30.0, group="Quantization",
                       show_default=True, metavar="SECONDS", help="For the search of the fastest graph.")  # fmt: skip
target = option("--target", metavar="NAME", group="Quantization",
                help="avx2, avx512, vnni, arm or tensorrt; default: this CPU. Another one is not raced.")  # fmt: skip
portable = option("--portable", is_flag=True, group="Output",
                  help="Also keep a plain QDQ graph for other runtimes (NAME.portable.onnx).")  # fmt: skip
pixels = option("--input", default="float32", group="Output", metavar="TYPE",
                help="float32, or uint8 or uint8-nhwc: pixels, normalized inside the model.")  # fmt: skip
max_drop = option("--max-drop", type=within("max_drop"), group="Quantization",
                  help="Accuracy that int8 may lose, a share (default: 0.01), or in the unit of --metric.")  # fmt: skip
sure = option("--sure", is_flag=True, group="Quantization",
              help="Hold --max-drop at the far end of its 95 % interval, not as measured.")  # fmt: skip
task = option("--task", metavar="TASK", group="Network",
              help="classification, segmentation, detection, multi-label, regression, embedding, image, "
              "keypoints or other.")  # fmt: skip
metric = option("--metric", metavar="FILE.py:NAME", group="Data",
                help="Your own function(answers, image[, truth]) in place of the task's metric.")  # fmt: skip
dynamic = option("--dynamic/--static", default=True, group="Graph", help="Any batch size, or one image at a time.")
dynamic_size = option("--dynamic-size", is_flag=True, group="Graph",
                      help="Any height and width (length of signals) too, proven at two sizes.")  # fmt: skip
runtime = option("--runtime/--no-runtime", default=True, group="Output",
                 help="Pack the program that `python NAME.edge` runs on a device (114 kB).")  # fmt: skip
keep_float = option("--keep-float", is_flag=True, group="Output",
                    help="Keep the float graph in the bundle too: `settle` chooses on the device.")  # fmt: skip
allow_slower = option("--allow-slower", is_flag=True, group="Quantization", help="Take int8 even where it is slower.")
all_int8 = option("--all-int8", is_flag=True, group="Quantization",
                  help="No layer stays float to be faster: the smallest file within the budget.")  # fmt: skip


def track() -> Track:
    """Progress on stderr: bars where that is a terminal, else a line now and then."""
    from runtimes.base import silent

    if sys.stderr is None:
        return silent
    if not sys.stderr.isatty():
        from edgecnn.cli._progress import Lines

        return Lines(sys.stderr)
    from edgecnn.report import Bars

    return Bars(sys.stderr)
