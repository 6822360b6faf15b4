"""Where parameters come from and go to."""
