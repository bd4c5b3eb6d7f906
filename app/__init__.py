"""A page in the browser that shows what the detector's settings and nets do on an image."""
