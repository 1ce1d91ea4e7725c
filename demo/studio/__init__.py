"""The studio: draw what moves over a picture, see it move, in the browser. docs/studio.md has what it is.

The server (api.py) holds no science: a render is a command line of inference_t2c.py, run in a process of its own.
"""
