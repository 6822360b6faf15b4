"""An HTTP server that answers many clients from one batch; they join and leave between tokens."""
