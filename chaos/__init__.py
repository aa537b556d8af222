"""Breaks the connector on purpose: random edits by people, faults of every party between them, and the promises checked afterwards.

`story` says from a seed what happens to one deal, `stage` runs the real app in processes of its own, `playing` lets many stories happen on
it at once, `checking` holds the promises against what is left, `shrinking` finds the short form of a story that failed, and `nights` is
the second half: one deal in one process, every call a place to stop, die or be overtaken. `python -m chaos --help` teaches the rest.
"""
