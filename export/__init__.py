"""From trained nets to the files that other packages load."""
