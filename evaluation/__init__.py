"""Evaluation of weights on labelled images: metrics, error analysis, reports."""
