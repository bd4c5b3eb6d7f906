"""What holds for every test."""

import signal

import pytest
from hypothesis import settings

# Other work on the machine is no fault, and a run that passed passes again. Look for new cases
# with `pytest --hypothesis-profile=default`.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

# A shell's background job ignores Ctrl-C, and so would the commands that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Training is imported where it is needed: most tests need no TensorFlow.


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A run that has P-Net's records, and nothing else; to be copied."""
    from tests.trainings import write_records

    return write_records(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def short(prepared, tmp_path_factory):
    """A short training that nothing disturbed."""
    from tests.trainings import SHORT, copied, train

    run = copied(prepared, tmp_path_factory.mktemp("short"))
    train(run, *SHORT)
    return run


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The recipe of a small data set with every trap."""
    from tests.data_sets import small_set, write_data, write_recipe

    folder = tmp_path_factory.mktemp("small")
    write_data(folder, small_set())
    return write_recipe(folder)


@pytest.fixture
def run(prepared, tmp_path):
    """A copy of `prepared` for the test alone."""
    from tests.trainings import copied

    return copied(prepared, tmp_path)
