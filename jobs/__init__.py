"""Who makes what, and what is made already: sharing and resume for every long work over many items."""
