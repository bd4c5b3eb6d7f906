"""Recipes, and the reader that turns one into checked settings."""

import os

# Every command passes here before it imports TensorFlow, which reads this on import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
