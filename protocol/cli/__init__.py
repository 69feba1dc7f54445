"""The one command: `main` (verbs come from each package's entry point, so that no package imports another), `console`
(the one way to show progress), `libraries` (what they are told before they are loaded, and what is said where they are
absent).
"""
