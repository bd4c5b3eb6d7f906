"""How stages are run and recorded: manifests, locks, command lines, TensorFlow's start-up."""
