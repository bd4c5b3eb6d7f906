"""What holds for every test."""

from hypothesis import settings

# Other work on the machine is no fault, and a run that passed passes again. Look for new cases
# with `pytest --hypothesis-profile=default`.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
