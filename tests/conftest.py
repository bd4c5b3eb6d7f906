"""Settings and fixtures of all tests."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from hypothesis import settings

from mtcnn_detector import threads
from pipeline.make_command import set_variables
from tests.label_files import write_images

# No deadline: other work on the machine makes a test slow, not wrong. The same examples each time:
# a run that passed passes again. `pytest --hypothesis-profile=default` looks for new ones.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

# `make test` tells its children that they are sub-makes; the commands under test are not.
for variable in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
    os.environ.pop(variable, None)

# A shell's background job ignores Ctrl-C, and so would the commands that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def thread_counts() -> Iterator[None]:
    """Restore OpenCV's and the detector's thread counts: workers under test set them to one."""
    opencv, detector = cv2.getNumThreads(), threads._threads.count
    yield
    cv2.setNumThreads(opencv)
    if threads._threads.count != detector:
        threads.use_threads(detector)


@pytest.fixture(autouse=True)
def no_make_variables() -> Iterator[None]:
    """Forget the command line of a command that ran in the tests' own process."""
    yield
    set_variables({})


# `tests.trainings` is imported where it is needed: it loads TensorFlow, which most tests don't use.


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with P-Net's records alone; tests work on copies."""
    from tests.trainings import write_records

    return write_records(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def short(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder after a short training of P-Net without an interruption."""
    from tests.trainings import SHORT, copy_run, train

    run = copy_run(prepared, tmp_path_factory.mktemp("short"))
    train(run, *SHORT)
    return run


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of a dozen images that hold every known trap."""
    from tests.data_sets import small_set, write_data, write_recipe

    folder = tmp_path_factory.mktemp("small")
    write_data(folder, small_set())
    return write_recipe(folder)


@pytest.fixture
def run(prepared: Path, tmp_path: Path) -> Path:
    """A copy of `prepared` for one test."""
    from tests.trainings import copy_run

    return copy_run(prepared, tmp_path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """The folder of the images that `tests.label_files` writes labels for."""
    write_images(tmp_path / "images")
    return tmp_path / "images"
