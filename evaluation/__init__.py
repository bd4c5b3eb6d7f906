"""From weights and a labelled set to figures, tables and pictures."""
