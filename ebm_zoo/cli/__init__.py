"""The command line, `ebm-zoo`. Nothing here imports torch until a command needs it."""

import argparse
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

from ebm_zoo import __version__
from ebm_zoo.errors import Stopped, ZooError, printable
from ebm_zoo.files import user_path

TRAINING = {
    "fit": "train a model on data",
    "validate": "run the validation loop",
    "test": "measure a model; --pretrained NAME measures a trained one beside its recorded figures",
    "predict": "let a model answer for data, pictures in the run's folder",
}
# Where each of the other commands is.
MODULES = {
    **dict.fromkeys(("list", "info"), "show"),
    **dict.fromkeys(("sample", "apply"), "work"),
    **dict.fromkeys(("download", "verify"), "fetch"),
    **dict.fromkeys(("export", "register", "push"), "publish"),
}


WORDS: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):
    WORDS[signal.SIGHUP] = "terminated, since its terminal was closed"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments; those of the process unless given.

    Returns:
        Exit status: 0 done, 1 a clear error, 2 unusable arguments, 130 interrupted, 143 terminated.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a terminal's encoding lacks is shown escaped: an answer must not be lost at its last step.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _ends():
            code = _run(arguments)
            sys.stdout.flush()
        return code
    except ZooError as error:
        print(f"ebm-zoo: {error}", file=sys.stderr)
        return 1
    except (Stopped, KeyboardInterrupt) as error:
        stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        print(printable(f"ebm-zoo: {WORDS.get(stopped.number, 'ended')}; {stopped.state}."), file=sys.stderr)
        return 128 + stopped.number
    except BrokenPipeError:
        # The reader of our output went away; keep the interpreter from failing again at exit.
        sys.stdout = None
        return 1
    except OSError as error:
        # A full disk, a folder of runs that cannot be written to: of the machine, not of the code.
        print(printable(f"ebm-zoo: {error}."), file=sys.stderr)
        return 1


@contextmanager
def _ends() -> Iterator[None]:
    """Let a signal that ends the process unwind it, so that nothing half-written stays; ignored ones stay ignored."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in WORDS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _: object) -> None:
    raise Stopped(number)


def _run(arguments: list[str]) -> int:
    shared, rest = _shared().parse_known_args(arguments)
    if shared.catalog:
        os.environ["EBM_ZOO_CATALOG"] = str(user_path(shared.catalog).absolute())
    if rest and rest[0] in TRAINING:
        from ebm_zoo.cli.train import run_training

        return run_training(rest)
    options = vars(_parser().parse_args(rest))
    command, _ = options.pop("command"), options.pop("catalog")
    return getattr(import_module(f"ebm_zoo.cli.{MODULES[command]}"), f"{command}_command")(**options)


def _shared() -> argparse.ArgumentParser:
    # Taken out before a command sees its arguments, so that it may stand anywhere and all commands have it.
    shared = argparse.ArgumentParser(prog="ebm-zoo", add_help=False, allow_abbrev=False)
    shared.add_argument("--catalog", metavar="FILE", help="catalog of yours beside the zoo's; with any command")
    return shared


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ebm-zoo",
        description="Model zoo of deep energy-based models: train, measure, sample, apply, share.",
        parents=[_shared()],
    )
    parser.add_argument("--version", action="version", version=f"ebm-zoo {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in TRAINING.items():
        commands.add_parser(name, help=text + f" (`ebm-zoo {name} --help`)", add_help=False)
    listing = commands.add_parser("list", help="names and figures of the trained models")
    listing.add_argument("pattern", nargs="?", default="*", help="shell pattern, for instance '*mnist*'")
    listing.add_argument("--json", action="store_true", help="print JSON")
    info = commands.add_parser("info", help="all that is recorded of a trained model")
    info.add_argument("name", help="catalog name, folder with a saved model, or user/repo@revision of the Hub")
    info.add_argument("--json", action="store_true", help="print JSON")
    _add_sample(commands)
    _add_apply(commands)
    _add_fetch(commands)
    _add_publish(commands)
    return parser


def _add_sample(commands) -> None:
    sample = commands.add_parser("sample", help="draw samples from a trained model")
    sample.add_argument("name", help="catalog name, folder with a saved model, or user/repo@revision of the Hub")
    sample.add_argument("--n", type=int, default=64, help="how many (default 64)")
    sample.add_argument(
        "--out",
        help="a .png grid, or .npy/.npz: float32 (N, C, H, W), model's range; of models of sentences .txt or .smi, one "
        "per line, printed unless given",
    )
    sample.add_argument("--seed", type=_seed, default=0, help="seed of the noise (default 0)")
    sample.add_argument("--steps", type=int, help="length of the chains; the model's own unless given")
    sample.add_argument("--size", type=int, help="side of the images, for textures: larger than in training")
    sample.add_argument("--label", type=int, help="class of the images; all in turn unless given")


def _add_apply(commands) -> None:
    apply = commands.add_parser("apply", help="let a trained model answer for images of yours")
    apply.add_argument("name", help="catalog name, folder with a saved model, or user/repo@revision of the Hub")
    apply.add_argument("task", help="one of the tasks that `ebm-zoo info NAME` lists")
    apply.add_argument(
        "--input",
        required=True,
        help="image file, folder of images, or .npy or .npz in the model's range; of "
        "models of clips a folder of frames, a GIF or a video file; of models of sentences a text file, one per line",
    )
    apply.add_argument(
        "--out", help=".png, .npy or .npz; for numbers .npy, .npz or .csv; for sentences .txt or .smi, or none to print"
    )
    apply.add_argument(
        "--mask",
        help="inpaint: what is known, an image (opaque there if partly transparent, else white, or 1 beside 0) or an "
        "array (nonzero there); by default the input image's opaque pixels",
    )
    apply.add_argument("--condition", help="energy of a conditional model: a class, or images as for --input")
    apply.add_argument("--to", choices=("a", "b"), help="translate: the domain that the images are brought to")
    apply.add_argument("--of", choices=("a", "b"), help="energy, predict_next of two domains: which one's")
    apply.add_argument(
        "--size", type=int, help="translate: side that the images are fitted to; as learned unless given"
    )
    apply.add_argument("--n", type=int, default=8, help="interpolate, predict: images per walk or answer (default 8)")
    apply.add_argument("--iterations", type=int, default=100, help="reconstruct, interpolate: steps of inversion")
    apply.add_argument(
        "--steps",
        type=int,
        help="inpaint, predict, translate, and reconstruct, interpolate of models that infer by chains: length of the "
        "chains; the model's own unless given",
    )
    apply.add_argument("--seed", type=_seed, default=0, help="seed of the noise (default 0)")


def _add_fetch(commands) -> None:
    verify = commands.add_parser("verify", help="check hashes, configurations and keys of the weights at hand")
    verify.add_argument("names", nargs="*", help="names; all unless given")
    verify.add_argument("--hub", action="store_true", help="also compare with what the Hub says it has")
    download = commands.add_parser("download", help="fetch trained models into the Hub's cache")
    download.add_argument("names", nargs="*", help="catalog names")
    download.add_argument("--all", action="store_true", help="all that are on the Hub")
    download.add_argument("--force", action="store_true", help="fetch again what is there, for a damaged cache")


def _add_publish(commands) -> None:
    export = commands.add_parser("export", help="training checkpoint to a folder that loads anywhere")
    export.add_argument("--ckpt_path", required=True, help="file below a run's checkpoints/")
    export.add_argument("--out", required=True, help="folder for config.json and model.safetensors")
    export.add_argument(
        "--weights", choices=("averaged", "raw"), help="averaged where the training averaged, unless given"
    )
    register = commands.add_parser("register", help="saved model to a catalog of yours, so that it loads by name")
    register.add_argument("folder", help="folder with config.json and model.safetensors")
    register.add_argument("--name", required=True, help="model/data, of a-z, 0-9 and _")
    register.add_argument("--summary", default="", help="one sentence: what it is")
    push = commands.add_parser("push", help="trained model to the Hugging Face Hub")
    push.add_argument("name", nargs="?", help="catalog name, or a folder with a saved model")
    push.add_argument("--repo", help="repository, user/name; made if missing")
    push.add_argument("--all", action="store_true", help="all of your catalog if you have one, else of the zoo's")
    push.add_argument("--namespace", help="with --all: user of the repositories user/model-data")
    push.add_argument("--private", action="store_true", help="make the repository private")
    push.add_argument("--create-pr", action="store_true", help="open a pull request; the catalog stays as it is")
    push.add_argument("--dry-run", action="store_true", help="say what would go where; nothing is sent")


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed < 2**63:
        raise argparse.ArgumentTypeError(f"{text} is out of range: give a number from 0 to 2**63 - 1")
    return seed
