"""What training and inference stand on: the model on its mesh, its parameters, run directories."""
