"""Recipes, and the reader that turns one into checked settings."""
