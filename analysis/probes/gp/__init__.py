"""Gaussian-process surrogates: a kernel learnt from what a family of networks computes (Li, Grant and Griffiths, UAI
2023: abstract read, experiments not; the formulation is ours, docs/probes.md). Four uses, a probe each.

GPyTorch cannot be installed beside our torch, so this is our own code, float64, over scipy and torch.

Reading order: `kernels` (covariance functions), `surrogate` (fit to a second-moment matrix, choose by held-out
networks), `families` and `functions` (networks as functions at points), `measures` (of a covariance); then the
probes: `probe_spectrum` (which frequencies are learnt when), `probe_depth` (what depth does to untrained networks),
`influence`, `retraining` and `probe_influence` (which training points matter), `ranking` and `probe_ranking` (which
architecture suits a data set); `summary` (their tables on the page).
"""
