"""From an image to faces: boxes, pixels, nets, weight layouts, cascade."""
