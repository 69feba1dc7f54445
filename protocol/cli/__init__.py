"""The one command: `main` (verbs come from each package's entry point, so that no package imports another), `explain`
(a verb: what an error's code means), `report_bug` (a verb: what helps us, in one file) with `redact` (what is nobody's
business), `logs` (where a verb's log is), `console` (the one way to show progress), `libraries` (what they are told
before they are loaded, and what is said where they are absent), `numbers` (options that are finite numbers),
`garbage` (how seldom the interpreter looks for it).
"""
