"""The base of training and inference: the model on its mesh, its parameters, run directories."""
