"""The cascade's nets as Keras models: building, folding batch norms, the distillation teacher."""
