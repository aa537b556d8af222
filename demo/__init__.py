"""The main job, live and narrated: deals travel each way, on the real parts, with no account anywhere.

`stage` starts everything, `telling` prints, `checking` and `edits` assert, and each story is one function, listed in `stories`.
"""
