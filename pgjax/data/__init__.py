"""Sources, preprocessing operations and the loader; numpy and Pillow."""
