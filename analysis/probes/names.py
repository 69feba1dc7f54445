"""Which probes there are, by name: all that `--help` needs to know."""

from typing import NamedTuple


class Listed(NamedTuple):
    place: str  # `module:Class`
    line: str  # for --help


PROBES: dict[str, Listed] = {
    "attribution": Listed(
        "analysis.probes.attribution.probe:Attribution", "do integrated gradients see what a network learnt"
    ),
    "corruption": Listed("analysis.probes.corruption.probe:Corruption", "how small a change of the weights does harm"),
    "gp_spectrum": Listed("analysis.probes.gp.probe_spectrum:GpSpectrum", "which frequencies a family learns when"),
    "gp_depth": Listed("analysis.probes.gp.probe_depth:GpDepth", "what depth does to untrained networks"),
    "gp_influence": Listed("analysis.probes.gp.probe_influence:GpInfluence", "which training points matter"),
    "gp_ranking": Listed("analysis.probes.gp.probe_ranking:GpRanking", "which architecture suits a data set"),
    "quantitative": Listed(
        "analysis.probes.quantitative.probe:Quantitative", "how often a property fails, from samples alone"
    ),
    "information": Listed("analysis.probes.information.probe:Information", "how many bits of a task a network knows"),
    "verification": Listed("analysis.probes.verification.probe:Verification", "how far inputs may move, provably"),
    "transfer": Listed("analysis.probes.transfer.probe:Transfer", "what a network gives to another task"),
}
