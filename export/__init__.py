"""Export of trained nets into the files that other packages and runtimes load."""
