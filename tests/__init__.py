"""Tests: one file a module, flat."""
