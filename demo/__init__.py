"""The main job, live and narrated: one deal travels each way, on the real parts, with no account anywhere.

`stage` starts everything, `telling` prints, and each story is one function in a module of its own, listed in `stories`.
"""
