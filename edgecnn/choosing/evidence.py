"""How little the images may have shown of what was chosen: the lines behind a verdict.

Test: tests/test_model_identity.py.
"""

from __future__ import annotations

import math

from edgecnn import doubts
from edgecnn.checking.tolerance import INT8_SNR_DB
from edgecnn.choosing.choose import Decision, lost_in_words
from edgecnn.choosing.contest import Contest
from edgecnn.choosing.judge import percent
from edgecnn.choosing.keeper import Aimed
from edgecnn.choosing.trial import Trial
from edgecnn.data.copies import independent
from edgecnn.data.material import Material
from edgecnn.evaluation.chance import chance_warning
from edgecnn.evaluation.scores import CONFIDENCE


def of_verdict(
    name: str, result: Contest, material: Material, trial: Trial, classes: int | None, seeded: bool = False
) -> tuple[str, ...]:
    """The lines that say how little the images of `name` may have shown; of drawn weights nobody expects an answer."""
    decision, alone = result.decision, doubts.of_lone(result.quantized.calibration, material.calibration)
    chance, idle = judged_by_chance(name, decision, material, classes), unraced(result.aimed, trial.threads)
    if seeded:
        return doubts.told(idle, alone, chance)
    few = judged_by_few(name, decision, material, trial)
    return doubts.told(idle, alone, chance, judged_by_nothing(name, decision), far_off(name, decision), few)


def unraced(aimed: Aimed, threads: int) -> str:
    """The line that `threads` of a race do nothing where there is none; empty for one thread, and where there is."""
    if threads == 1 or aimed.here:
        return ""
    return f"--threads {threads}: does nothing with --target {aimed.target}, for nothing is raced for another CPU"


def judged_by_chance(name: str, decision: Decision, material: Material, classes: int | None) -> str:
    """The line that says that the float graph of `name` is no better than chance; empty where it is."""
    value = decision.candidates[0].accuracy
    return chance_warning(f"{name}: float", decision.metric, value, material.judged, classes)


def judged_by_nothing(name: str, decision: Decision) -> str:
    """The line that says that the answers of the float graph of `name` could not differ; empty where they could."""
    if not decision.alike:
        return ""
    return (
        f"{name}: the float graph {decision.alike}, so that equal answers prove nothing; give pictures like those in "
        "use, or labelled --data"
    )


def far_off(name: str, decision: Decision) -> str:
    """The line that says that the integer graph chosen for `name` is far from the float graph, and that nobody knows
    what that costs; empty where it is near, and where labels say what it costs.
    """
    rival = decision.rival
    if rival is None or rival.name != decision.winner or rival.accuracy is not None or rival.snr_db is None:
        return ""
    if rival.snr_db >= INT8_SNR_DB:
        return ""
    return (
        f"{name}: {rival.name} has {rival.snr_db:.1f} dB SNR to the float graph, and below {INT8_SNR_DB:g} dB `check` "
        "calls int8 broken; labelled --data decides"
    )


def judged_by_few(name: str, decision: Decision, material: Material, trial: Trial) -> str:
    """The line that says that the images of `name` leave room for more than the budget; empty where they do not."""
    rival, count = decision.rival, len(material.judged)
    chosen = rival is not None and rival.name == decision.winner
    if rival is not None and chosen and trial.sure and rival.drop_high is None:
        return f"{name}: of what {rival.name} loses here no interval is known: --sure held it as measured"
    if rival is None or not chosen or rival.drop_high is None or rival.drop_high <= trial.max_drop or decision.alike:
        return ""
    high, budget = (lost_in_words(value, trial) for value in (rival.drop_high, trial.max_drop))
    as_many = "" if material.judged.groups is None else f", worth {independent(material.judged)} different ones,"
    if rival.accuracy is not None:
        return (
            f"{name}: {count} labelled images{as_many} leave room for {high} of {decision.metric} (95 %), and the "
            f"budget is {budget}: more of them would make sure, and --sure asks for it"
        )
    needed = images_for(trial.max_drop)
    more = f"; {needed} of which none changes show it, or labelled --data" if needed else "; labelled --data may"
    share, most = percent(trial.max_drop), percent(rival.drop_high)
    said = f"{name}: {count} images{as_many} cannot show a budget of {share} %"
    return f"{said}: up to {most} % of all may change (95 %){more}"


def images_for(share: float) -> int:
    """So many images without a change show at 95 % that no more than `share` of all change; 0 where none do.

    >>> images_for(0.01), images_for(0.05), images_for(0.0)
    (299, 59, 0)
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-share)) if 0 < share < 1 else 0
