"""Options: plain dataclasses, the command line that fills them, and the runtime they decide.

A leaf: imports nothing of ours.
"""
