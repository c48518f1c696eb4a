"""The report's audit part: what was attacked, what came out, and what that cannot show."""

import hashlib
from collections.abc import Mapping
from typing import Any

from common.canonical import canonical
from common.report.formatting import format_count, format_epsilon, format_value
from common.report.html import Child, Html, join, table, tag
from server.report.run_files import RunFiles

__all__ = ["audited"]


def audited(run: RunFiles) -> Html:
    """Empty where the run was not audited."""
    found = run.audit
    if found is None:
        return Html("")
    return join(
        tag("h2", "What an attacker finds", id="audit"),
        _verdict(run, found),
        tag("h3", "Canaries"),
        tag("p", _canaries(found)),
        tag("p", _what_a_bound_is(found), class_="note"),
        tag("h3", "The mechanism as it ran"),
        _checks(found),
        tag("h3", "Reading text back"),
        _inversion(found["inversion"]),
    )


def _verdict(run: RunFiles, found: Mapping[str, Any]) -> Html:
    parts: list[Html] = []
    if found["planted"]:
        parts.append(
            tag(
                "p",
                tag("strong", f"Noise multiplier {format_value(found['noise_multiplier'])} was planted, in place of "),
                tag("strong", f"{format_value(found['claimed_noise_multiplier'])}, to see that the audit notices."),
            )
        )
    if found["failed"]:
        parts.append(tag("p", tag("strong", f"Refuted: {', '.join(found['failed'])}.", class_="refused")))
    elif not found["planted"]:
        parts.append(tag("p", "No attack refuted what the run claims."))
    if run.config and hashlib.sha256(canonical(dict(run.config))).hexdigest() != found["config_digest"]:
        parts.append(
            tag("p", tag("strong", "It was made for another configuration than this run's."), class_="refused")
        )
    return join(*parts)


def _canaries(found: Mapping[str, Any]) -> str:
    unit = found["unit"] or "record"
    return (
        f"{format_count(found['canaries'])} {unit}s of random tokens, each put into the training by a fair "
        f"coin. An attacker "
        f"who sees the model after every one of {format_count(found['steps'])} steps, and knows everything but "
        f"coins, batches "
        f"and noise, guessed {format_count(found['guesses'])} of the coins, "
        f"{format_count(found['right_guesses'])} of them right. "
        f"So, with confidence {format_value(found['confidence'])}, ε is at least {found['lower_bound']:.2f}; "
        f"claimed is "
        f"{format_epsilon(found['claimed_epsilon'])}, both at δ = {format_value(found['delta'])} for one {unit}."
    )


def _what_a_bound_is(found: Mapping[str, Any]) -> str:
    return (
        "A lower bound is what this one attack could show, not the guarantee: the guarantee is the accountant's ε, and "
        "a low bound proves nothing. So few canaries could not have shown more than "
        f"{found['largest_possible_bound']:.2f}, and the attack would hardly see noise that a bug has halved; the "
        "checks below would."
    )


def _checks(found: Mapping[str, Any]) -> Html:
    rows: list[list[Child]] = [
        [
            each["what"],
            format_value(each["measured"]),
            format_value(each["stated"]),
            "fails" if each["name"] in found["failed"] else "holds",
        ]
        for each in found["checks"]
    ]
    caption = "The training loop itself, run on random tokens: what came out of it against what the accountant assumes."
    return table(["What", "Measured", "Stated", ""], rows, caption)


def _inversion(found: Mapping[str, Any]) -> Html:
    tokens = format_count(found["tokens"])
    words = (
        f"One training step on one sentence, first layer, LoRA of rank {format_count(found['rank'])}: from the "
        f"update alone "
        f"the attacker read {format_count(found['plain'])} of {tokens} tokens where nothing protected it, "
        f"{format_count(found['clipped'])} where it was clipped, and {format_count(found['private'])} through "
        f"clipping and noise; "
        f"blind guessing finds {format_value(found['chance'])}."
    )
    example = None
    if len(found["example"]) == 3:
        sentence, read, noised = found["example"]
        example = table(
            ["Sentence", "Read from the plain update", "Read through the noise"], [[sentence, read, noised]], words=3
        )
    return join(tag("p", words), example)
