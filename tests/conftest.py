"""What holds for every test."""

import signal

from hypothesis import settings

# Other work on the machine is no fault, and a run that passed passes again. Look for new cases
# with `pytest --hypothesis-profile=default`.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

# A shell's background job ignores Ctrl-C, and so would the commands that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
