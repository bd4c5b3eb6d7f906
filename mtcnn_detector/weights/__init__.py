"""Weights files, recognised by looking and read without running code."""
