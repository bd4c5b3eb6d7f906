"""From TFRecords to a trained net."""
