"""From annotated images to TFRecords."""
