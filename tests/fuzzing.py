"""Coverage-guided fuzzing by atheris: `python -m tests.fuzzing TARGET CORPUS [options]`.

CORPUS is a folder of inputs that are tried first; those that find new ways are added, and what is
read from a file lies beside it. In a process of its own, for libFuzzer ends it: at once when a
target raises what is no error of ours, or asks for more memory than it may have.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["storage", "pipeline.config", "numpy.lib", "gzip"]):
    from pipeline.config import SweepOptions
    from pipeline.option_values import parse_k, parse_patch
    from storage import InputError, open_images
    from storage.images.formats.idx import read_idx
    from storage.images.formats.packed import MAX_GZIP_RATIO

FOLDER = Path(sys.argv[2]).parent
FIELDS = sorted(SweepOptions.model_fields)


def idx(content: bytes) -> None:
    path = FOLDER / "images"
    path.write_bytes(content)
    array = read_idx(path)
    assert array.nbytes <= len(content) * MAX_GZIP_RATIO
    array.sum()


def npy(content: bytes) -> None:
    path = FOLDER / "images.npy"
    path.write_bytes(content)
    source = open_images(str(path))
    assert source.images.nbytes < len(content)
    assert len(source.fingerprint) == 64


def sizes(content: bytes) -> None:
    text = atheris.FuzzedDataProvider(content).ConsumeUnicode(len(content))
    for parse in (parse_k, parse_patch):
        try:
            assert all(isinstance(number, int) for number in parse(text))
        except ValueError as error:
            if len(str(error)) > 200:
                raise AssertionError("a message of any length") from error


def options(content: bytes) -> None:
    provider = atheris.FuzzedDataProvider(content)
    name = provider.PickValueInList(FIELDS)
    checked = SweepOptions.checked(**{name: provider.ConsumeUnicode(len(content))})
    assert list(checked.sizes) == sorted(set(checked.sizes))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "idx": idx,
    "npy": npy,
    "sizes": sizes,
    "options": options,
}


def main() -> None:
    target = TARGETS[sys.argv.pop(1)]

    def once(content: bytes) -> None:
        try:
            target(content)
        except InputError as error:
            if not str(error).isprintable():
                raise AssertionError("more than a line") from error

    atheris.Setup(sys.argv, once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
